"""What the API server itself refuses: a ValidatingAdmissionPolicy on InferenceServices, and the rights of the serving backend.

The policy holds that a predictor loads exactly one thing, named by digests, that serving has put on its list. It cannot verify a
signature (CEL has no such function): whoever loads the model does that.
"""

from collections.abc import Iterable
from typing import Final

from services.core import admission
from services.core.admission import SPEC_CHANGES, refuse_unless
from services.core.kube import Object, Resource
from services.serving import gateway
from services.serving.inference import ALLOWED, DEPLOYMENT, MANAGED, MODE, SERVICES, Place
from services.serving.predictor.source import SCHEME, URI

CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles")
NAME: Final = "ai-infra-servable-models"
SPEC: Final = ("predictor", "canary")
PREDICTOR: Final = (
    "name", "labels", "serviceAccountName", "automountServiceAccountToken", "securityContext", "topologySpreadConstraints",
    "minReplicas", "maxReplicas", "model",
)  # fmt: skip
"""Fields that a predictor may have. Its annotations are not among them: KServe takes them for its own word to itself, the storage
URI included."""
MODEL: Final = ("name", "modelFormat", "protocolVersion", "runtime", "storageUri", "resources")
"""The same of its `model`. Danger: a probe may run a program, `runtimeVersion` replaces the digest of the runtime's image."""
MODES: Final = ("RawDeployment", "Standard")
"""Names of one mode, of older and newer releases of KServe."""
WATCHED: Final = ("get", "list", "watch")


def policy(place: Place) -> Object:
    """Refuses what is not pinned, not listed, or comes from elsewhere."""
    one = "has(p.model) && has(p.model.storageUri)"
    listed = "p.model.storageUri.split('/')[2] in variables.listed && variables.listed[p.model.storageUri.split('/')[2]]"
    refusals = (
        refuse_unless(
            f"variables.predictors.all(p, {one} && p.model.storageUri.matches('^{URI}$'))",
            f"model.storageUri is not pinned: want {SCHEME}DEPLOYMENT/ARTIFACT/MANIFEST/BUNDLE, the last three as sha256:…",
        ),
        refuse_unless(
            f"variables.predictors.all(p, {one} && {listed} == p.model.storageUri)",
            f"the manifest is not listed in ConfigMap {ALLOWED}: deploy by `ai-infra deploy`, which decides and lists",
        ),
        refuse_unless(
            f"variables.predictors.all(p, {one} && has(p.model.runtime) && p.model.runtime == '{place.runtime}')",
            f"model.runtime is not {place.runtime}",
        ),
        refuse_unless(
            f"dyn(object.spec).all(k, k in {_listed(SPEC)})",
            f"only {_words(SPEC)} have a manifest: leave out all else of the spec",
        ),
        refuse_unless(
            f"variables.predictors.all(p, p.all(k, k in {_listed(PREDICTOR)}))",
            f"a predictor has more than model.storageUri: it may have {_words(PREDICTOR)}",
        ),
        refuse_unless(
            f"variables.predictors.all(p, has(p.model) && p.model.all(k, k in {_listed(MODEL)}))",
            f"a model brings a program or data of its own: it may have {_words(MODEL)}",
        ),
        refuse_unless(
            f"variables.predictors.all(p, {one} && has(p.labels) && '{DEPLOYMENT}' in p.labels"
            f" && p.labels['{DEPLOYMENT}'] == p.model.storageUri.split('/')[2])",
            f"label {DEPLOYMENT} is not the deployment of model.storageUri: its pods would be taken for another's",
        ),
        refuse_unless(
            f"variables.notes.all(k, !k.contains('kserve.io/') || (k == '{MODE}' && variables.notes[k] in {_listed(MODES)}))",
            f"an annotation tells KServe to serve otherwise: of its own only {MODE} may be there",
        ),
    )
    variables = {
        # Objects whose fields are gone through as those of a map.
        "canaries": "has(object.spec.canary) ? object.spec.canary.map(c, dyn(c.predictor)) : []",
        "predictors": "[dyn(object.spec.predictor)] + variables.canaries",
        "listed": "has(params.data) ? params.data : {}",
        "notes": _notes("object"),
    }
    changes = f"{SPEC_CHANGES} || {_notes('object')} != {_notes('oldObject')}"
    return admission.policy(NAME, SERVICES, refusals, variables=variables, when=changes, parameter="ConfigMap")


def binding() -> Object:
    """In force in every namespace, each with its own list; without a list nothing is served there."""
    return admission.binding(NAME, parameter=ALLOWED)


def role() -> Object:
    """All that the backend `kserve` does in a namespace of predictors; to be bound there only. Nobody else is given the verbs on
    the list."""
    return {
        "apiVersion": f"{CLUSTER_ROLES.group}/{CLUSTER_ROLES.version}",
        "kind": "ClusterRole",
        "metadata": {"name": "ai-infra-serving", "labels": dict(MANAGED)},
        "rules": [
            _rule(SERVICES.group, SERVICES.plural, (*WATCHED, "create", "patch", "delete")),
            _rule(gateway.POLICIES.group, gateway.POLICIES.plural, (*WATCHED, "create", "patch", "delete")),
            _rule("", "pods", WATCHED),
            # What is to be created has no name yet that a rule could hold it to.
            _rule("", "configmaps", (*WATCHED, "create")),
            _rule("", "configmaps", ("patch",)) | {"resourceNames": [ALLOWED]},
        ],
    }


def _rule(group: str, plural: str, verbs: Iterable[str]) -> Object:
    return {"apiGroups": [group], "resources": [plural], "verbs": list(verbs)}


def _notes(of: str) -> str:
    return f"(has({of}.metadata.annotations) ? {of}.metadata.annotations : {{}})"


def _listed(names: Iterable[str]) -> str:
    """A list in CEL."""
    return f"[{', '.join(map(repr, names))}]"


def _words(names: Iterable[str]) -> str:
    return ", ".join(names)
