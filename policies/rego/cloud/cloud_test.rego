package sentinelnet.cloud_test

import data.sentinelnet.cloud
import data.sentinelnet.infra_fixtures_test as fix
import rego.v1

exception := {"rule": "infra.destruction", "resource": "aws_vpc.main", "reason": "It moves.", "approvedBy": "sam", "expires": 2000}

whole_with(resources, statements) if {
	cloud.whole with input.environment as "prod" with input.layer as "ground" with input.resources as resources with input.statements as statements
}

test_facts_are_whole_when_each_resource_has_an_address_of_its_own if {
	whole_with(fix.resources, fix.statements)
	not whole_with({}, [])
	not whole_with({"aws_vpc": [{"address": "a"}, {"address": "a"}]}, [])
	not whole_with({"aws_vpc": [{"address": "a"}, null]}, [])
	not whole_with({"aws_vpc": [{"address": "a"}], "aws_subnet": "none"}, [])
	not whole_with({"aws_vpc": [{"address": ""}]}, [])
	not whole_with(null, [])
}

test_facts_are_whole_when_each_statement_has_all_of_its_lists if {
	not whole_with(fix.resources, null)
	not whole_with(fix.resources, ["s"])
	not whole_with(fix.resources, [object.union(fix.statement, {"effect": "allow"})])
	not whole_with(fix.resources, [object.remove(fix.statement, ["notActions"])])
}

test_facts_are_of_a_known_environment_and_layer if {
	not cloud.whole with input.environment as "moon" with input.layer as "ground" with input.resources as fix.resources with input.statements as []
	not cloud.whole with input.environment as "prod" with input.layer as "attic" with input.resources as fix.resources with input.statements as []
}

test_facts_that_are_not_whole_are_denied if {
	cloud.report("x", {"n": "wrong"}, {"n"}).reasons == ["the facts about the environment are not complete"]
	cloud.each("x", [1], [true], []).reasons == ["the facts about the environment are not complete"]
}

test_report_names_what_is_not_met if {
	r := cloud.report("x", {"a": "no a", "b": "no b"}, {"a"}) with input.environment as "dev" with input.layer as "ground"
		with input.resources as fix.resources
		with input.statements as []
	r == {"rule": "x", "verdict": "deny", "reasons": ["no b"]}
	s := cloud.report("x", {}, set()) with input.environment as "dev" with input.layer as "ground"
		with input.resources as fix.resources
		with input.statements as []
	s.verdict == "pass"
}

test_each_item_is_good_or_named if {
	r := cloud.each("x", [1, 2], [true], ["2 is wrong"]) with input.environment as "dev" with input.layer as "ground"
		with input.resources as fix.resources
		with input.statements as []
	r == {"rule": "x", "verdict": "deny", "reasons": ["2 is wrong"]}
	s := cloud.each("x", [1, 2], [true], []) with input.environment as "dev" with input.layer as "ground"
		with input.resources as fix.resources
		with input.statements as []
	s.verdict == "deny"
}

test_type_that_is_not_there_is_an_empty_list if {
	cloud.of("aws_vpc") == []
	cloud.of("aws_vpc") == [] with input.resources as {"aws_vpc": null}
	cloud.of("aws_vpc") == [1] with input.resources as {"aws_vpc": [1]}
}

test_two_resources_that_configure_one_are_none if {
	one := {"address": "v", "target": "b"}
	cloud.only("t", {"address": "b"}) == one with input.resources as {"t": [one, {"address": "w", "target": "c"}]}
	not cloud.only("t", {"address": "b"}) with input.resources as {"t": [one, one]}
	not cloud.only("t", {"address": "b"}) with input.resources as {"t": []}
}

test_exception_has_a_reason_an_approver_and_a_near_end if {
	cloud.valid(exception) with input.now as 1000
	not cloud.valid(exception) with input.now as 2001
	not cloud.valid(object.union(exception, {"expires": 99999999})) with input.now as 1000
	not cloud.valid(object.union(exception, {"reason": ""})) with input.now as 1000
	not cloud.valid(object.union(exception, {"approvedBy": null})) with input.now as 1000
	not cloud.valid(object.union(exception, {"rule": "infra.signing-keys"})) with input.now as 1000
}

test_exception_is_for_one_thing_of_one_rule if {
	cloud.excepted("infra.destruction", "aws_vpc.main") with input.exceptions as [exception] with input.now as 1000
	not cloud.excepted("infra.destruction", "aws_vpc.other") with input.exceptions as [exception] with input.now as 1000
	not cloud.excepted("infra.iam-wildcards", "aws_vpc.main") with input.exceptions as [exception] with input.now as 1000
	not cloud.excepted("infra.destruction", "aws_vpc.main") with input.exceptions as [exception] with input.now as 3000
}
