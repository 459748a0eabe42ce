# METADATA
# title: Quarantined models are not served
# description: An active safety flag on the version, its artifact or any data set it descends from quarantines it.
# custom:
#   owner: security
#   runbook: runbooks/quarantine.md
#   severity: quarantine
#   reads: [flags]
#   limits: []
package sentinelnet.serving.quarantine

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "serving.quarantine", "verdict": "deny", "reasons": ["the safety flags were not looked up"]}

report := {"rule": "serving.quarantine", "verdict": "pass", "reasons": []} if lib.flags == []

report := lib.refused("serving.quarantine", "quarantine", lib.flag_texts) if count(lib.flags) > 0
