# METADATA
# title: Decision
# description: The one entry point. The set of reports of the rules that data.actions names for the action.
# custom:
#   owner: security
#   runbook: runbooks/policy-decision.md
package sentinelnet

import rego.v1

wanted := object.get(data.actions, input.action, [])

# One line a rule, so that nothing is evaluated but what the action needs: authorisation is asked for every write and must
# stay cheap. A rule that has no line here does not report, which denies; a look-up by name (data.sentinelnet[area][rule])
# would be a recursion into this very rule.

# METADATA
# entrypoint: true
decision contains data.sentinelnet.authz.operation.report if "authz.operation" in wanted

decision contains data.sentinelnet.dataset.blocked.report if "dataset.blocked" in wanted

decision contains data.sentinelnet.dataset.licence.report if "dataset.licence" in wanted

decision contains data.sentinelnet.dataset.pii.report if "dataset.pii" in wanted

decision contains data.sentinelnet.dataset.quarantine.report if "dataset.quarantine" in wanted

decision contains data.sentinelnet.infra.cluster.report if "infra.cluster" in wanted

decision contains data.sentinelnet.infra.default_deny.report if "infra.default-deny" in wanted

decision contains data.sentinelnet.infra.destruction.report if "infra.destruction" in wanted

decision contains data.sentinelnet.infra.encryption.report if "infra.encryption" in wanted

decision contains data.sentinelnet.infra.exceptions.report if "infra.exceptions" in wanted

decision contains data.sentinelnet.infra.gpu_tolerations.report if "infra.gpu-tolerations" in wanted

decision contains data.sentinelnet.infra.iam_wildcards.report if "infra.iam-wildcards" in wanted

decision contains data.sentinelnet.infra.images.report if "infra.images" in wanted

decision contains data.sentinelnet.infra.key_material.report if "infra.key-material" in wanted

decision contains data.sentinelnet.infra.locked_buckets.report if "infra.locked-buckets" in wanted

decision contains data.sentinelnet.infra.models.report if "infra.models" in wanted

decision contains data.sentinelnet.infra.network.report if "infra.network" in wanted

decision contains data.sentinelnet.infra.pods.report if "infra.pods" in wanted

decision contains data.sentinelnet.infra.recovery.report if "infra.recovery" in wanted

decision contains data.sentinelnet.infra.signing_keys.report if "infra.signing-keys" in wanted

decision contains data.sentinelnet.infra.spot.report if "infra.spot" in wanted

decision contains data.sentinelnet.infra.tags.report if "infra.tags" in wanted

decision contains data.sentinelnet.promotion.artifact_digest.report if "promotion.artifact-digest" in wanted

decision contains data.sentinelnet.promotion.evaluation_fresh.report if "promotion.evaluation-fresh" in wanted

decision contains data.sentinelnet.promotion.evaluation_present.report if "promotion.evaluation-present" in wanted

decision contains data.sentinelnet.promotion.evaluation_thresholds.report if "promotion.evaluation-thresholds" in wanted

decision contains data.sentinelnet.promotion.quorum.report if "promotion.quorum" in wanted

decision contains data.sentinelnet.promotion.request.report if "promotion.request" in wanted

decision contains data.sentinelnet.promotion.safety_flag.report if "promotion.safety-flag" in wanted

decision contains data.sentinelnet.promotion.signature.report if "promotion.signature" in wanted

decision contains data.sentinelnet.serving.clearance.report if "serving.clearance" in wanted

decision contains data.sentinelnet.serving.manifest.report if "serving.manifest" in wanted

decision contains data.sentinelnet.serving.quarantine.report if "serving.quarantine" in wanted

decision contains data.sentinelnet.serving.stage.report if "serving.stage" in wanted

decision contains data.sentinelnet.signing.bundle.report if "signing.bundle" in wanted

decision contains data.sentinelnet.training.clean_tree.report if "training.clean-tree" in wanted

decision contains data.sentinelnet.training.provenance.report if "training.provenance" in wanted
