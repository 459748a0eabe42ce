# METADATA
# title: Code comes from a commit
# description: A model trained from a changed working tree can be tried, never promoted.
# custom:
#   owner: trainer
#   runbook: runbooks/provenance.md
#   severity: deny
#   reads: [provenance.dirty]
#   limits: []
package sentinelnet.training.clean_tree

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "training.clean-tree", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.report("training.clean-tree", needs, met)

needs := {"clean": "the run's working tree had changes that are in no commit: commit or ignore them and train again"}

met contains "clean" if input.provenance.dirty == false
