# METADATA
# title: No active safety flag
# description: Nothing the version descends from is flagged. A version that may be live is quarantined, another one is refused.
# custom:
#   owner: security
#   runbook: runbooks/quarantine.md
#   severity: quarantine
#   reads: [flags, version.stage]
#   limits: []
package sentinelnet.promotion.safety_flag

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "promotion.safety-flag", "verdict": "deny", "reasons": ["the safety flags were not looked up"]}

report := {"rule": "promotion.safety-flag", "verdict": "pass", "reasons": []} if lib.flags == []

report := lib.refused("promotion.safety-flag", "quarantine", lib.flag_texts) if {
	count(lib.flags) > 0
	live
}

report := lib.refused("promotion.safety-flag", "deny", lib.flag_texts) if {
	count(lib.flags) > 0
	not live
}

live if input.version.stage in ["prod", "staging"]
