# METADATA
# title: No wildcards in IAM
# description: No Allow for a pattern of actions, for every resource or to everybody (unless a condition names who), and no managed policy that was not read, without a written exception.
# custom:
#   owner: security
#   runbook: runbooks/infra-access.md
#   severity: deny
#   reads: [environment, exceptions, layer, now, resources, statements]
#   limits: [limits.managed_policies]
package sentinelnet.infra.iam_wildcards

import data.sentinelnet.cloud
import rego.v1

default report := {"rule": "infra.iam-wildcards", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := cloud.each("infra.iam-wildcards", items, good, bad)

items := array.concat([{"id": s.id, "wrong": faults(s)} | some s in input.statements], managed)

managed := [{"id": a.address, "wrong": managed_faults(a)} | some a in attachments]

attachments := array.concat(cloud.of("aws_iam_role_policy_attachment"), cloud.of("aws_iam_policy_attachment"))

# The things that need an exception; infra.exceptions compares them with those that have one.
wrong contains item.id if {
	some item in items
	count(item.wrong) > 0
}

good := [true | some item in items; fine(item)]

bad := [concat("", [item.id, " allows ", concat(", ", item.wrong), ": name them, or write an exception in stacks/exceptions.yaml"]) |
	some item in items
	not fine(item)
]

fine(item) if item.wrong == []

fine(item) if {
	count(item.wrong) > 0
	cloud.excepted("infra.iam-wildcards", item.id)
}

faults(s) := [text | some text in [open_actions(s), open_resources(s), open_principals(s)]; text != ""]

# Each pattern has to be denied outright: a match that the engine cannot answer proves nothing.
default open_actions(_) := ""

open_actions(s) := "all actions but some" if {
	allows(s)
	count(s.notActions) > 0
} else := "a pattern of actions" if {
	allows(s)
	count(s.actions) != count([true | some action in s.actions; regex.match(`[*?]`, action) == false])
}

default open_resources(_) := ""

# In the policy of a key, a bucket or a queue, "*" is that thing.
open_resources(s) := "all resources but some" if {
	allows(s)
	count(s.notResources) > 0
} else := "every resource" if {
	allows(s)
	s.kind == "identity"
	count(s.resources) != count([true | some r in s.resources; regex.match(`^(\*|arn:[a-z*-]+:[a-z0-9*-]+:[^:]*:[^:]*:[*?/:]+)$`, r) == false])
} else := "a pattern of buckets" if {
	allows(s)
	s.kind == "identity"
	count(s.resources) != count([true | some r in s.resources; regex.match(`^arn:[^:]*:s3:[^:]*:[^:]*:[^:/]*[*?]`, r) == false])
} else := "every resource of a kind" if {
	# With a condition, a tag say, it is not every one.
	allows(s)
	s.kind == "identity"
	count(s.conditions) == 0
	count(s.resources) != count([true | some r in s.resources; regex.match(`^arn:[^:]*:[^:]*:[^:]*:[^:]+:[a-z-]+[/:][*]$`, r) == false])
}

default open_principals(_) := ""

open_principals(s) := "everybody" if {
	allows(s)
	s.kind in ["resource", "trust"]
	count(s.principals) != count([true | some principal in s.principals; regex.match(`[*]`, principal) == false])
	count([true | some condition in s.conditions; narrows(condition)]) == 0
}

# Who asks, or from where or for whom, by name. Tests that a request without the key passes (IfExists, ForAllValues) are not here.
narrows(condition) if {
	condition.test in ["ArnEquals", "ArnLike", "StringEquals", "StringLike"]
	condition.key in ["aws:principalaccount", "aws:principalarn", "aws:principalorgid", "aws:sourceaccount", "aws:sourcearn", "aws:sourcevpc", "aws:sourcevpce"]
	count(condition.values) > 0
	count(condition.values) == count([true | some value in condition.values; regex.match(`[*?]`, value) == false])
}

# NFS clients have no identity: whoever reaches a mount target is let in by its security group.
narrows(condition) if {
	condition.test == "Bool"
	condition.key == "elasticfilesystem:accessedviamounttarget"
	condition.values == ["true"]
}

allows(s) if s.effect == "Allow"

default managed_faults(_) := ["a policy that could not be read"]

managed_faults(attachment) := [] if regex.match(`^arn:aws[a-z-]*:iam::aws:policy/`, attachment.policy_arn) == false

managed_faults(attachment) := [] if attachment.policy_arn in data.limits.managed_policies
