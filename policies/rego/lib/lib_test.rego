package sentinelnet.lib_test

import data.sentinelnet.lib
import rego.v1

test_rule_without_needs_does_not_report if {
	not lib.report("x", {}, set())
}

test_item_that_is_neither_good_nor_bad_leaves_the_list_without_a_report if {
	not lib.each_refused("x", [1, 2, 3], [true], ["one text"])
	not lib.each_refused("x", [1, 2], [true], [])
}

test_list_is_refused_for_its_bad_items_and_when_it_is_empty if {
	lib.each_refused("x", [1, 2], [true], ["wrong"]) == {"rule": "x", "verdict": "deny", "reasons": ["wrong"]}
	lib.each_refused("x", [], [], []).verdict == "deny"
}

test_percent_is_exact_to_two_digits if {
	lib.percent(0.0705) == "7.05"
	lib.percent(1) == "100.00"
	lib.percent(0) == "0.00"
	lib.percent(-0.5) == "unknown"
	lib.percent("1") == "unknown"
}

test_numbers_are_not_compared_with_text if {
	lib.at_least(2, 2)
	not lib.at_least("a", 2)
	not lib.at_least(2, null)
}

test_nothing_is_not_the_same_as_nothing if {
	lib.same("a", "a")
	not lib.same("a", "b")
	not lib.same("", "")
	not lib.same(null, null)
}

test_digest_has_64_hex_digits if {
	lib.is_digest("sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	not lib.is_digest("sha256:aaaa")
	not lib.is_digest(7)
}
