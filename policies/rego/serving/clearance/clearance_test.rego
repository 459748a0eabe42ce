package sentinelnet.serving.clearance_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.serving.clearance
import rego.v1

flag := {"id": "flag-1", "kind": "model", "target": "digits@1", "reason": "biased", "since": 999000}

signed := {
	"digest": fix.digest.a,
	"flag": "flag-1",
	"kind": "model",
	"target": "digits@1",
	"reason": "retested",
	"issuedAt": 999500,
	"signer": "key-s",
	"person": "spiffe://ai-infra.local/person/sam",
	"roles": ["security"],
}

report_of(change) := r if {
	r := clearance.report with input.now as fix.now
		with input.flag as flag
		with input.clearance as object.union(signed, change)
}

test_signed_clearance_passes if {
	report_of({}) == {"rule": "serving.clearance", "verdict": "pass", "reasons": []}
}

test_each_break_is_named if {
	every change, reason in {
		{"flag": "flag-2"}: "the clearance is of another flag",
		{"kind": "dataset"}: "the clearance is of another flag",
		{"target": "digits@2"}: "the clearance is of another flag",
		{"reason": ""}: "the clearance gives no reason",
		{"roles": ["deployer"]}: "the clearance is not signed by a person with the role security",
		{"person": null}: "the clearance is not signed by a person with the role security",
		{"issuedAt": 998999}: "the clearance is older than the flag, or from the future",
		{"issuedAt": 1000006}: "the clearance is older than the flag, or from the future",
	} {
		report_of(change) == {"rule": "serving.clearance", "verdict": "deny", "reasons": [reason]}
	}
}

test_no_clearance_is_denied if {
	r := clearance.report with input.now as fix.now with input.flag as flag with input.clearance as null
	count(r.reasons) == 4
}
