# METADATA
# title: What the rules share
# description: Reports built from met conditions only, and checks that are total on any input.
# custom:
#   owner: security
#   runbook: runbooks/policy-decision.md
package sentinelnet.lib

import rego.v1

# A rule lists what it needs (name -> what is wrong without it) and proves each need. A built-in that yields nothing
# leaves a need unproven, so it can only refuse: no rule counts violations.
report(rule, needs, met) := {"rule": rule, "verdict": "pass", "reasons": []} if {
	count(needs) > 0
	object.keys(needs) - met == set()
} else := refused(rule, "deny", [needs[name] | some name in unmet]) if {
	unmet := object.keys(needs) - met
	count(unmet) > 0
}

passed(rule) := {"rule": rule, "verdict": "pass", "reasons": []}

# Why a list did not pass: one item of good for each item that was proven good, one text of bad for each other one. An item with
# neither leaves the rule without an answer, so its default refuses.
each_refused(rule, items, good, bad) := refused(rule, "deny", ["no data set is named"]) if {
	count(items) == 0
} else := refused(rule, "deny", bad) if {
	count(bad) > 0
	count(good) + count(bad) == count(items)
}

refused(rule, verdict, reasons) := {"rule": rule, "verdict": verdict, "reasons": sort(reasons)}

default datasets := []

datasets := input.datasets if is_array(input.datasets)

# Null until the flags were looked up: no list is not an empty list.
default flags := null

flags := input.flags if is_array(input.flags)

flag_texts := [sprintf("active safety flag on %s %s: %s", [text(object.get(f, "kind", "")), text(object.get(f, "target", "")), text(object.get(f, "reason", ""))]) |
	some f in flags
	is_object(f)
]

evaluated if is_object(input.evaluation)

# Rules on an evaluation say this alone when there is none: nothing that is not there is old or bad.
unevaluated(rule) := refused(rule, "deny", ["there is no evaluation"])

# Only what comes from the input goes into %s: the embedded engine puts quotes around literals and results of built-ins
# there. `concat` joins those.
default text(_) := "(unnamed)"

text(value) := value if {
	is_string(value)
	value != ""
}

# The length apart: with {64} in it, the expression takes the embedded engine five times as long to read, at each call.
is_digest(value) if {
	is_string(value)
	count(value) == 71
	regex.match(`^sha256:[0-9a-f]+$`, value)
}

# Two missing values are not the same value; neither are two nulls.
same(one, other) if {
	is_string(one)
	one != ""
	one == other
}

# Comparisons across types have an order in Rego ("a" > 3); a limit means numbers.
at_least(value, limit) if {
	is_number(value)
	is_number(limit)
	value >= limit
}

# A signed time is not later than now, but for the difference between two clocks.
happened(seconds) if at_least(input.now + data.limits.clock_skew_s, seconds)

# %d needs integers, and the engines print fractions differently.
default percent(_) := "unknown"

percent(fraction) := sprintf("%d.%d%d", [floor(n / 100), floor(n / 10) % 10, n % 10]) if {
	is_number(fraction)
	n := round(fraction * 10000)
	n >= 0
	n <= 10000
}
