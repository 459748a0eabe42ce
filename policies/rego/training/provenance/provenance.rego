# METADATA
# title: Provenance is complete
# description: Signed by a builder, nothing missing, the run key recomputes, and it speaks of this artifact and these data sets.
# custom:
#   owner: trainer
#   runbook: runbooks/provenance.md
#   severity: deny
#   reads: [datasets, provenance, version.artifactId, version.runKey]
#   limits: []
package sentinelnet.training.provenance

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "training.provenance", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.report("training.provenance", needs, met)

needs := {
	"artifact": "the provenance is of another artifact",
	"complete": concat("", ["the provenance lacks inputs: ", concat(", ", missing)]),
	"datasets": "a data set of the run was not given to the policy",
	"runKey": "the run key does not recompute, or is of another run",
	"signer": "the provenance is not signed by a trusted builder",
}

missing := sort([lib.text(name) | some name in object.get(input, ["provenance", "missing"], ["all of them"])])

met contains "artifact" if {
	lib.is_digest(input.provenance.artifactId)
	input.provenance.artifactId == input.version.artifactId
}

met contains "complete" if input.provenance.missing == []

met contains "datasets" if {
	count(input.provenance.datasets) > 0
	every id in input.provenance.datasets {
		given[id]
	}
}

# By look-up: `in` reads the whole list for every item.
given := {d.id | some d in lib.datasets}

met contains "runKey" if {
	lib.is_digest(input.provenance.runKey)
	input.provenance.runKey == input.provenance.recomputedRunKey
	input.provenance.runKey == input.version.runKey
}

met contains "signer" if {
	input.provenance.role == "builder"
	lib.same(input.provenance.signer, input.provenance.signer)
}
