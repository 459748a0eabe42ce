package sentinelnet.serving.stage_test

import data.sentinelnet.fixtures_test as fix
import data.sentinelnet.serving.stage
import rego.v1

report_of(stage_name, environment) := r if {
	r := stage.report with input.version as object.union(fix.version, {"stage": stage_name}) with input.environment as environment
}

test_promoted_version_is_served if {
	report_of("prod", "prod") == {"rule": "serving.stage", "verdict": "pass", "reasons": []}
	report_of("staging", "staging").verdict == "pass"
	report_of("prod", "staging").verdict == "pass"
}

test_version_not_promoted_is_denied if {
	report_of("staging", "prod").reasons == ["a version in stage staging is not served in prod"]
	report_of("dev", "staging").verdict == "deny"
	report_of("prod", "moon").verdict == "deny"
	report_of(null, "prod").verdict == "deny"
}
