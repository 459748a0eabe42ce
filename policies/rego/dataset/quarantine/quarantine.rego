# METADATA
# title: Flagged data is not trained on
# description: No data set of the job, nor an ancestor of one, has an active safety flag.
# custom:
#   owner: security
#   runbook: runbooks/quarantine.md
#   severity: deny
#   reads: [flags]
#   limits: []
package sentinelnet.dataset.quarantine

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "dataset.quarantine", "verdict": "deny", "reasons": ["the safety flags were not looked up"]}

report := {"rule": "dataset.quarantine", "verdict": "pass", "reasons": []} if lib.flags == []

report := lib.refused("dataset.quarantine", "deny", lib.flag_texts) if count(lib.flags) > 0
