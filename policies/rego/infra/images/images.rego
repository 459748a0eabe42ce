# METADATA
# title: What runs is pinned
# description: Every image of ours has its digest, every chart its exact version and a repository over TLS.
# custom:
#   owner: security
#   runbook: runbooks/infra-workloads.md
#   severity: deny
#   reads: [environment, layer, pods, policies, pools, releases, services]
#   limits: []
package sentinelnet.infra.images

import data.sentinelnet.workloads
import rego.v1

default report := {"rule": "infra.images", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := workloads.report("infra.images", needs, met)

needs[workloads.key(p, "digest")] := workloads.says(p, "runs an image without a digest: pin it as NAME@sha256:...") if some p in input.pods

needs[workloads.key(r, "version")] := workloads.says(r, "takes whatever version its chart has: pin one, as 1.2.3") if some r in input.releases

needs[workloads.key(r, "repository")] := workloads.says(r, "has no repository, or one that is not over TLS: name its https:// or oci:// URL") if some r in input.releases

met contains workloads.key(p, "digest") if {
	some p in input.pods
	all := workloads.containers(p)
	count(all) == count([true | some c in all; regex.match(`^[^@\s]+@sha256:[0-9a-f]{64}$`, c.image)])
}

met contains workloads.key(r, "version") if {
	some r in input.releases
	regex.match(`^v?[0-9]+\.[0-9]+\.[0-9]+$`, r.version)
}

met contains workloads.key(r, "repository") if {
	some r in input.releases
	regex.match(`^(https|oci)://.+$`, concat("", [r.repository, r.chart]))
}
