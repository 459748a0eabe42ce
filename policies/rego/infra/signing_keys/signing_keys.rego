# METADATA
# title: Only the signing proxy signs
# description: Signing keys are P-256, protected, slow to delete; their policies let the proxy's role sign and deny it to everybody else.
# custom:
#   owner: security
#   runbook: runbooks/infra-keys.md
#   severity: deny
#   reads: [account, environment, layer, resources, statements]
#   limits: [limits.key_deletion_days, limits.signing_keys, limits.signing_role]
package sentinelnet.infra.signing_keys

import data.sentinelnet.cloud
import rego.v1

default report := {"rule": "infra.signing-keys", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := cloud.report("infra.signing-keys", needs, met)

primaries := [k | some k in cloud.of("aws_kms_key"); k.key_usage == "SIGN_VERIFY"]

replicas := [r |
	some k in primaries
	some r in cloud.of("aws_kms_replica_key")
	r.primary_key_arn == concat("", ["${", k.address, ".arn}"])
]

keys := array.concat(primaries, replicas)

proxy := concat("", ["arn:aws:iam::", input.account, ":role/ai-infra-", input.environment, data.limits.signing_role])

wants := {
	"protect": "could be destroyed by a change of the program: give it protect",
	"window": "could be gone within days: raise its deletion window to the environment's floor",
	"allow": "lets somebody sign who is not the signing proxy, or nobody: allow kms:Sign to its role alone",
	"deny": "does not deny kms:Sign to everybody but the signing proxy: add the Deny on aws:PrincipalArn",
}

needs[cloud.key(k, want)] := cloud.says(k, text) if {
	some k in keys
	some want, text in wants
}

needs[cloud.key(k, "spec")] := cloud.says(k, "is not ECC_NIST_P256: an attestation's key is") if some k in primaries

needs["present"] := "the ground has fewer signing keys than purposes: manifests and the audit log have one each" if cloud.ground

needs[cloud.key({"address": s.id}, "identity")] := cloud.says({"address": s.id}, "lets another role than the signing proxy's sign") if {
	some s in grants
	s.kind == "identity"
}

met contains "present" if count(primaries) >= data.limits.signing_keys

met contains cloud.key(k, "spec") if {
	some k in primaries
	k.customer_master_key_spec == "ECC_NIST_P256"
}

met contains cloud.key(k, "protect") if {
	some k in keys
	k.protect == true
}

met contains cloud.key(k, "window") if {
	some k in keys
	is_number(k.deletion_window_in_days)
	k.deletion_window_in_days >= data.limits.key_deletion_days[input.environment]
}

met contains cloud.key(k, "allow") if {
	some k in keys
	mine := [s | some s in grants; s.governs == k.address]
	count(mine) > 0
	count(mine) == count([s | some s in mine; s.principals == [proxy]])
}

met contains cloud.key(k, "deny") if {
	some k in keys
	some s in input.statements
	s.governs == k.address
	denies_the_rest(s)
}

met contains cloud.key({"address": s.id}, "identity") if {
	some s in grants
	s.kind == "identity"
	s.holders == [proxy]
}

# A pattern that could be read as kms:Sign counts as it, and so does everything but some actions.
grants := [s | some s in input.statements; s.effect == "Allow"; signs(s)]

signs(statement) if count(statement.notActions) > 0

signs(statement) if {
	some action in statement.actions
	not other(action)
}

other(action) if regex.match(`^(\*.*|[^:]*[*?][^:]*:.*|kms:([*?].*|s.*[*?].*|sign))$`, action) == false

# Nothing else may stand in the condition: each further test would narrow the Deny.
denies_the_rest(statement) if {
	statement.effect == "Deny"
	statement.principals == ["*"]
	statement.resources == ["*"]
	"kms:sign" in statement.actions
	count(statement.conditions) == 1
	statement.conditions[0].key == "aws:principalarn"
	statement.conditions[0].test in ["ArnNotEquals", "StringNotEquals"]
	statement.conditions[0].values == [proxy]
}
