# METADATA
# title: The stage fits the environment
# description: An environment serves only versions of the stages listed for it.
# custom:
#   owner: deployer
#   runbook: runbooks/deploy-refused.md
#   severity: deny
#   reads: [environment, version.stage]
#   limits: [limits.deployable]
package sentinelnet.serving.stage

import data.sentinelnet.lib
import rego.v1

default report := {"rule": "serving.stage", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := lib.report("serving.stage", {"stage": wrong}, met)

wrong := sprintf("a version in stage %s is not served in %s", [
	lib.text(object.get(input, ["version", "stage"], "")),
	lib.text(object.get(input, ["environment"], "")),
])

met contains "stage" if input.version.stage in data.limits.deployable[input.environment]
