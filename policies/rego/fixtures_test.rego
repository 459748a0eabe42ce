# METADATA
# title: Inputs that pass
# description: Parts of inputs for the tests of the rules.
# custom:
#   owner: security
#   runbook: runbooks/policy-decision.md
package sentinelnet.fixtures_test

import rego.v1

now := 1000000

digest := {letter: concat("", ["sha256:", concat("", [letter | some _ in numbers.range(1, 64)])]) | some letter in ["a", "b", "c", "d", "e", "f"]}

artifact_id := digest.a

run_key := digest.b

evaluation_digest := digest.c

dataset := {"id": digest.d, "licence": "CC-BY-4.0", "pii": "none", "approvedBy": []}

flag := {"id": "flag-1", "kind": "dataset", "target": digest.d, "reason": "labels were wrong", "since": 999000}

flag_text := sprintf("active safety flag on dataset %s: labels were wrong", [digest.d])

version := {"model": "digits", "number": 1, "artifactId": artifact_id, "runKey": run_key, "riskClass": "high", "stage": "staging"}

request := {
	"digest": digest.f,
	"model": "digits",
	"number": 1,
	"artifactId": artifact_id,
	"runKey": run_key,
	"evaluation": evaluation_digest,
	"from": "staging",
	"to": "prod",
	"riskClass": "high",
	"policyRevision": digest.e,
	"nonce": "n-1",
	"issuedAt": 999900,
	"expiresAt": 1000100,
	"requester": {"signer": "key-0", "person": "spiffe://ai-infra.local/person/paula", "roles": ["promoter"]},
}

approval(n) := {"signer": sprintf("key-%d", [n]), "person": sprintf("spiffe://ai-infra.local/person/p%d", [n]), "roles": ["approver"]}

evaluation := {
	"digest": evaluation_digest,
	"artifactId": artifact_id,
	"dataset": digest.d,
	"split": "test",
	"samples": 360,
	"metrics": {"accuracy": 0.97, "perClass": {"0": {"recall": 0.99, "precision": 0.98}, "1": {"recall": 0.95, "precision": 0.9}}},
	"issuedAt": 999000,
	"signer": "key-e",
	"role": "evaluator",
}

provenance := {
	"digest": digest.f,
	"artifactId": artifact_id,
	"runKey": run_key,
	"recomputedRunKey": run_key,
	"missing": [],
	"dirty": false,
	"datasets": [digest.d],
	"signer": "key-b",
	"role": "builder",
}

artifact := {"id": artifact_id, "recomputed": artifact_id, "signature": {"signer": "key-b", "role": "builder", "subject": digest.f}}

manifest := {"digest": digest.f, "environment": "prod", "artifactId": artifact_id, "signer": "key-m", "role": "manifest"}
