package sentinelnet.infra.iam_wildcards_test

import data.sentinelnet.infra.iam_wildcards
import data.sentinelnet.infra_fixtures_test as fix
import rego.v1

reported(statement, exceptions) := r if {
	r := iam_wildcards.report with input.environment as "dev" with input.layer as "ground" with input.now as 1000
		with input.resources as {"aws_vpc": [{"address": "aws_vpc.main"}]}
		with input.statements as [statement]
		with input.exceptions as exceptions
}

stated(patch) := object.union(fix.statement, patch)

ending := ": name them, or write an exception in stacks/exceptions.yaml"

exception := {"rule": "infra.iam-wildcards", "resource": "aws_iam_policy.p#S", "reason": "It can be no narrower.", "approvedBy": "sam", "expires": 2000}

test_named_actions_and_resources_pass if {
	reported(fix.statement, []) == {"rule": "infra.iam-wildcards", "verdict": "pass", "reasons": []}
	reported(stated({"effect": "Deny", "actions": ["*"], "resources": ["*"]}), []).verdict == "pass"
	reported(stated({"kind": "resource", "resources": ["*"], "principals": ["arn:aws:iam::111122223333:role/x"]}), []).verdict == "pass"
}

test_wildcard_is_denied if {
	cases := {
		"a pattern of actions": {"actions": ["s3:Get*"]},
		"all actions but some": {"actions": [], "notActions": ["iam:passrole"]},
		"every resource": {"resources": ["*"]},
		"every resource of a kind": {"resources": ["arn:aws:iam::111122223333:role/*"]},
		"a pattern of buckets": {"resources": ["arn:aws:s3:::ai-infra-*/objects/*"]},
		"all resources but some": {"resources": [], "notResources": ["arn:aws:s3:::b"]},
		"everybody": {"kind": "resource", "principals": ["*"]},
		"a pattern of actions, every resource": {"actions": ["*"], "resources": ["arn:aws:s3:::*"]},
	}
	every text, patch in cases {
		reported(stated(patch), []).reasons == [concat("", ["aws_iam_policy.p#S allows ", text, ending])]
	}
	every resource in ["arn:aws:s3:::*/*", "arn:aws:kms:*:*:*", "arn:aws:sqs:eu-central-1:111122223333:?*"] {
		reported(stated({"resources": [resource]}), []).reasons == [concat("", ["aws_iam_policy.p#S allows every resource", ending])]
	}
	reported(stated({"resources": ["arn:aws:s3:::b/objects/*"]}), []).verdict == "pass"
}

test_everybody_and_every_one_of_a_kind_under_a_condition_pass if {
	condition := [{"test": "StringEquals", "key": "aws:principalorgid", "values": ["o-1"]}]
	reported(stated({"resources": ["arn:aws:ec2:eu-central-1:111122223333:instance/*"], "conditions": condition}), []).verdict == "pass"
	reported(stated({"kind": "resource", "principals": ["*"], "conditions": condition}), []).verdict == "pass"
}

open(conditions) := reported(stated({"kind": "resource", "principals": ["*"], "conditions": conditions}), [])

test_everybody_whom_a_condition_names_passes if {
	every key in ["aws:principalaccount", "aws:principalarn", "aws:principalorgid", "aws:sourceaccount", "aws:sourcearn", "aws:sourcevpc", "aws:sourcevpce"] {
		every test in ["ArnEquals", "ArnLike", "StringEquals", "StringLike"] {
			open([{"test": test, "key": key, "values": ["x"]}]).verdict == "pass"
		}
	}
	open([{"test": "Bool", "key": "elasticfilesystem:accessedviamounttarget", "values": ["true"]}]).verdict == "pass"
	open([{"test": "Bool", "key": "aws:securetransport", "values": ["true"]}, {"test": "StringEquals", "key": "aws:sourcevpc", "values": ["vpc-1"]}]).verdict == "pass"
}

test_condition_that_names_nobody_leaves_it_to_everybody if {
	named := {"test": "StringEquals", "key": "aws:principalorgid", "values": ["o-1"]}
	every patch in [{"key": "aws:securetransport", "test": "Bool", "values": ["true"]}, {"key": "aws:requestedregion"}, {"key": "aws:useragent"}, {"test": "StringNotEquals"}, {"test": "StringEqualsIfExists"}, {"test": "ForAllValues:StringEquals"}, {"values": ["*"]}, {"values": ["o-1", "o-?"]}, {"values": []}, {"values": [7]}, {"key": "elasticfilesystem:accessedviamounttarget", "test": "Bool", "values": ["false"]}] {
		open([object.union(named, patch)]).reasons == [concat("", ["aws_iam_policy.p#S allows everybody", ending])]
	}
	every missing in ["test", "key", "values"] {
		open([object.remove(named, [missing])]).verdict == "deny"
	}
	reported(object.remove(stated({"kind": "trust", "principals": ["*"]}), ["conditions"]), []).verdict == "deny"
	reported(stated({"effect": "Deny", "kind": "resource", "principals": ["*"], "conditions": []}), []).verdict == "pass"
}

test_written_exception_passes_until_it_ends if {
	reported(stated({"actions": ["*"]}), [exception]).verdict == "pass"
	reported(stated({"actions": ["*"]}), [object.union(exception, {"expires": 999})]).verdict == "deny"
	iam_wildcards.wrong == {"aws_iam_policy.p#S"} with input.statements as [stated({"actions": ["*"]})]
}

test_managed_policy_that_was_not_read_is_denied if {
	attached := {"address": "aws_iam_role_policy_attachment.a", "policy_arn": "arn:aws:iam::aws:policy/AdministratorAccess"}
	r := iam_wildcards.report with input.environment as "dev" with input.layer as "ground" with input.exceptions as []
		with input.resources as {"aws_iam_role_policy_attachment": [attached]}
		with input.statements as []
	r.reasons == [concat("", ["aws_iam_role_policy_attachment.a allows a policy that could not be read", ending])]
	s := iam_wildcards.report with input.environment as "dev" with input.layer as "ground" with input.exceptions as []
		with input.resources as {"aws_iam_role_policy_attachment": [attached]}
		with input.statements as []
		with data.limits.managed_policies as [attached.policy_arn]
	s.verdict == "pass"
}
