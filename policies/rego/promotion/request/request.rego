# METADATA
# title: The request binds what is promoted
# description: The signed request names this version, artifact, run, stage step, risk class and policy, by a promoter, for a limited time.
# custom:
#   owner: security
#   runbook: runbooks/promotion-request.md
#   severity: deny
#   reads: [now, policyRevision, request, version]
#   limits: [limits.clock_skew_s, limits.request_max_valid_s, limits.stage_steps]
package sentinelnet.promotion.request

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "promotion.request", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.report("promotion.request", needs, met)

needs := {
	"artifact": "the request is for another artifact",
	"digest": "the request has no digest",
	"expired": "the request has expired",
	"future": "the request was issued in the future",
	"lifetime": sprintf("the request is valid for longer than %d s", [data.limits.request_max_valid_s]),
	"model": "the request is for another model version",
	"nonce": "the request has no nonce",
	"policy": "the request was made under another policy revision",
	"requester": "the requester is not a known promoter",
	"risk": "the request names another risk class than the version has",
	"run": "the request is for another run",
	"stage": sprintf("the version is in stage %s, the request starts from %s", [stage, from]),
	"step": sprintf("no step leads from %s to %s", [from, to]),
}

stage := lib.text(object.get(input, ["version", "stage"], ""))

from := lib.text(object.get(input, ["request", "from"], ""))

to := lib.text(object.get(input, ["request", "to"], ""))

met contains "artifact" if {
	lib.is_digest(input.request.artifactId)
	input.request.artifactId == input.version.artifactId
}

met contains "digest" if lib.is_digest(input.request.digest)

met contains "expired" if {
	lib.at_least(input.request.expiresAt, input.now)
	lib.at_least(input.request.expiresAt, input.request.issuedAt)
}

met contains "future" if lib.happened(input.request.issuedAt)

# A request that never expires could wait for a weaker moment.
met contains "lifetime" if {
	lib.at_least(input.request.expiresAt, 0)
	lib.at_least(input.request.issuedAt + data.limits.request_max_valid_s, input.request.expiresAt)
}

met contains "model" if {
	lib.same(input.request.model, input.version.model)
	is_number(input.request.number)
	input.request.number == input.version.number
}

met contains "nonce" if lib.same(input.request.nonce, input.request.nonce)

met contains "policy" if {
	lib.is_digest(input.policyRevision)
	input.request.policyRevision == input.policyRevision
}

met contains "requester" if {
	"promoter" in input.request.requester.roles
	lib.same(input.request.requester.person, input.request.requester.person)
	lib.same(input.request.requester.signer, input.request.requester.signer)
}

met contains "risk" if lib.same(input.request.riskClass, input.version.riskClass)

met contains "run" if {
	lib.is_digest(input.request.runKey)
	input.request.runKey == input.version.runKey
}

met contains "stage" if lib.same(input.request.from, input.version.stage)

met contains "step" if input.request.to in data.limits.stage_steps[input.request.from]
