package sentinelnet.infra.tags_test

import data.sentinelnet.infra.tags
import data.sentinelnet.infra_fixtures_test as fix
import rego.v1

reported(resources) := r if {
	r := tags.report with input.environment as "prod" with input.layer as "ground" with input.resources as resources with input.statements as []
}

test_complete_tags_pass if {
	reported(fix.resources) == {"rule": "infra.tags", "verdict": "pass", "reasons": []}
}

test_missing_and_wrong_tags_are_named if {
	right := {"team": "ml", "cost_centre": "1", "environment": "prod"}
	cases := {
		"cost_centre, environment, team": {},
		"team": object.union(right, {"team": ""}),
		"cost_centre": object.remove(right, ["cost_centre"]),
		"environment": object.union(right, {"environment": "dev"}),
	}
	every names, found in cases {
		reported({"aws_vpc": [{"address": "aws_vpc.main", "tags": found}]}).reasons == [concat("", ["aws_vpc.main lacks a tag, or has a wrong one: ", names])]
	}
}

test_type_without_tags_passes if {
	reported({"aws_s3_bucket_versioning": [{"address": "a.b"}]}).verdict == "pass"
}
