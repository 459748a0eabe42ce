"""What the API server refuses of pods in the namespace of Ray jobs: a ValidatingAdmissionPolicy.

A job runs other people's code, so what its pod could reach is all that guards the rest: an account without rights, its run's
folder, no secret but the token that KubeRay makes for the job's own cluster. CEL cannot see which run's folder a pod should have,
nor whose token it asks for: whoever may make pods there may read any run. Not here: who may, which RBAC alone says.
"""

from typing import Final

from services.core import admission
from services.core.admission import refuse_unless
from services.core.kube import PODS, Object

NAME: Final = "ai-infra-training-pods"
CONTAINERS: Final = ("containers", "initContainers", "ephemeralContainers")
TOKEN, TOKEN_KEY = "RAY_AUTH_TOKEN", "auth_token"
"""The variable that KubeRay adds, and where in its secret it looks, as KubeRay spells them."""


def policy(account: str, volume: str) -> Object:
    """account: the only one there; volume: the PersistentVolumeClaim of the runs."""
    lists = (f"dyn(has(object.spec.{name}) ? object.spec.{name} : [])" for name in CONTAINERS)
    token = f"e.name == '{TOKEN}' && has(e.valueFrom.secretKeyRef) && e.valueFrom.secretKeyRef.key == '{TOKEN_KEY}'"
    refusals = (
        refuse_unless(
            f"has(object.spec.serviceAccountName) && object.spec.serviceAccountName == '{account}'",
            f"pods here run as the service account {account}",
        ),
        refuse_unless(
            "!has(object.spec.volumes) || object.spec.volumes.all(v, has(v.emptyDir)"
            f" || (has(v.persistentVolumeClaim) && v.persistentVolumeClaim.claimName == '{volume}'))",
            f"a volume is neither an empty folder nor the claim {volume}",
        ),
        refuse_unless(
            f"variables.containers.all(c, !has(c.envFrom) && (!has(c.env) || c.env.all(e,"
            f" !has(e.valueFrom) || has(e.valueFrom.fieldRef) || has(e.valueFrom.resourceFieldRef) || ({token}))))",
            f"a variable comes from a secret or a ConfigMap: only KubeRay's {TOKEN} may",
        ),
    )
    variables = {"containers": " + ".join(lists)}
    return admission.policy(NAME, PODS, refusals, variables=variables, subresources=["ephemeralcontainers"])


def binding(namespace: str) -> Object:
    return admission.binding(NAME, namespace=namespace)
