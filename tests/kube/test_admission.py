"""The admission policy on a real API server: what it admits and refuses. It is cluster-wide, so it has its own cluster."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.core.admission import BINDINGS, POLICIES
from services.core.errors import AiInfraError, Refused
from services.core.kube import Kube, Object, Resource
from services.serving import admission, inference
from services.serving.inference import ALLOWED, CONFIG_MAPS, SERVICES, Place, Predictor, Split, allowed, inference_service
from tests.kube.apiserver import ApiServer
from tests.kube.conftest import definitions, install
from tests.kube.objects import order
from tests.serving import wait_for

PLACE = Place()
NAMESPACE = PLACE.of("staging")
NAMESPACES = Resource("", "v1", "namespaces")
SPLIT = Split(rollout="rol-1", phases=((0.1, 1000),))


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kube]:
    found = [text for text in definitions() if b"inferenceservices.serving.kserve.io" in text]
    server = ApiServer(tmp_path_factory.mktemp("admission"))
    server.start()
    try:
        install(server, found)
        kube = Kube(server.access(), "tests")
        for name in (NAMESPACE, PLACE.of("dev")):
            kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        kube.apply(CONFIG_MAPS, allowed(NAMESPACE, [order(1), order(2)]))
        kube.apply(POLICIES, admission.policy(PLACE))
        kube.apply(BINDINGS, admission.binding())
        # The server takes a new policy, and its parameters, into force after a moment.
        wait_for(lambda: verdict(kube, service(order(9))) and not verdict(kube, service()), "the policy is in force")
        yield kube
        kube.close()
    finally:
        server.stop()


def service(stable: Any = None, canary: Any = None) -> Object:
    second = None if canary is None else Predictor(order=canary, replicas=1)
    first = Predictor(order=stable or order(1), replicas=1)
    return inference_service(PLACE, first, second, SPLIT if second is not None else None)


def verdict(kube: Kube, wanted: Object) -> str:
    """Why it is refused; empty if it is admitted."""
    try:
        kube.apply(SERVICES, wanted, dry_run=True)
    except Refused as error:
        return str(error)
    return ""


def test_listed_versions_are_admitted(admin: Kube) -> None:
    assert verdict(admin, service()) == ""
    assert verdict(admin, service(order(1), order(2))) == ""


def other(path: str, value: Any) -> Callable[[Object], None]:
    def change(wanted: Object) -> None:
        *steps, last = path.split(".")
        found: Any = wanted
        for step in steps:
            found = found[int(step)] if step.isdigit() else found[step]
        if value is None:
            found.pop(last)
        else:
            found[last] = value

    return change


STABLE, CANARY = "spec.predictor", "spec.canary.0.predictor"
URI = inference.storage_uri(order(1))
BAD: dict[str, tuple[Callable[[Object], None], str]] = {
    "no digest": (other(f"{STABLE}.model.storageUri", "s3://models/digits"), "not pinned"),
    "no digest in the canary": (other(f"{CANARY}.model.storageUri", "s3://models/digits"), "not pinned"),
    "a tag for a digest": (other(f"{STABLE}.model.storageUri", URI.replace("sha256:", "tag:", 1)), "not pinned"),
    "a short digest": (other(f"{STABLE}.model.storageUri", URI[:-1]), "not pinned"),
    "something behind it": (other(f"{STABLE}.model.storageUri", URI + "/x"), "not pinned"),
    "no uri": (other(f"{STABLE}.model.storageUri", None), "not pinned"),
    "no model": (other(f"{STABLE}.model", None), "not pinned"),
    "another manifest": (other(f"{STABLE}.model.storageUri", inference.storage_uri(order(3))), "not listed"),
    "another manifest in the canary": (other(f"{CANARY}.model.storageUri", inference.storage_uri(order(3))), "not listed"),
    "a listed deployment with another artifact": (
        other(f"{STABLE}.model.storageUri", inference.storage_uri(order(3, deployment=order(1).deployment))), "not listed"
    ),
    "another runtime": (other(f"{STABLE}.model.runtime", "theirs"), "model.runtime"),
    "no runtime": (other(f"{STABLE}.model.runtime", None), "model.runtime"),
    "a container beside it": (other(f"{STABLE}.containers", [{"name": "x", "image": "y"}]), "has more than"),
    "an init container": (other(f"{STABLE}.initContainers", [{"name": "x", "image": "y"}]), "has more than"),
    "a volume": (other(f"{CANARY}.volumes", [{"name": "x", "emptyDir": {}}]), "has more than"),
    "another framework": (other(f"{STABLE}.sklearn", {"storageUri": "s3://x"}), "has more than"),
    "more uris": (other(f"{STABLE}.storageUris", [{"uri": "s3://x", "mountPath": "/x"}]), "has more than"),
    "an image": (other(f"{STABLE}.model.image", "theirs"), "program or data"),
    "arguments": (other(f"{CANARY}.model.args", ["--model_dir=/x"]), "program or data"),
    "an environment": (other(f"{STABLE}.model.env", [{"name": "LD_PRELOAD", "value": "/x"}]), "program or data"),
    "a storage key": (other(f"{STABLE}.model.storage", {"key": "x", "path": "y"}), "program or data"),
    "a transformer": (other("spec.transformer", {"containers": [{"name": "x", "image": "y"}]}), "only predictor, canary"),
    "an explainer": (other("spec.explainer", {"containers": [{"name": "x", "image": "y"}]}), "only predictor, canary"),
    "a probe that runs a program": (
        other(f"{STABLE}.model.livenessProbe", {"exec": {"command": ["cat", "/identity/predictor/tls.key"]}}), "program or data"
    ),
    "another digest for the runtime's image": (other(f"{CANARY}.model.runtimeVersion", "0" * 64), "program or data"),
    "another working directory": (other(f"{STABLE}.model.workingDir", "/tmp"), "program or data"),
    "a name for the API that leads elsewhere": (
        other(f"{STABLE}.hostAliases", [{"ip": "10.0.0.9", "hostnames": ["api.ai-infra.svc"]}]), "has more than"
    ),
    "a logger of what is asked and answered": (other(f"{STABLE}.logger", {"mode": "all", "url": "http://x"}), "has more than"),
    "the node's network": (other(f"{CANARY}.hostNetwork", True), "has more than"),
    "another uri as KServe's own annotation": (
        other(f"{STABLE}.annotations", {"internal.serving.kserve.io/storage-initializer-sourceuri": "s3://x"}), "has more than"
    ),
    "an annotation by which KServe logs": (
        other("metadata.annotations", {"internal.serving.kserve.io/logger": "true"}), "an annotation tells KServe"
    ),
    "another mode": (other("metadata.annotations", {inference.MODE: "Serverless"}), "an annotation tells KServe"),
    "pods under another deployment's name": (other(f"{STABLE}.labels", {inference.DEPLOYMENT: order(2).deployment}), "label "),
    "pods under no deployment's name": (other(f"{CANARY}.labels", None), "label "),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_pinned_and_listed_is_refused(admin: Kube, name: str) -> None:
    change, why = BAD[name]
    wanted = copy.deepcopy(service(order(1), order(2)))
    change(wanted)
    assert why in verdict(admin, wanted)


def test_an_annotation_is_not_slipped_in_later(admin: Kube) -> None:
    wait_for(lambda: applied(admin, service()), "the list is seen")
    changed = service()
    changed["metadata"]["annotations"]["serving.kserve.io/storage-readonly"] = "false"
    assert "an annotation tells KServe" in verdict(admin, changed)
    admin.delete(SERVICES, "digits", NAMESPACE)


def test_without_a_list_nothing_is_admitted(admin: Kube) -> None:
    found = verdict(admin, service(order(1, environment="dev")))
    assert "no params found" in found


def test_a_withdrawn_version_loses_its_finalizer_but_is_not_changed(admin: Kube) -> None:
    wanted = service(order(2))
    wanted["metadata"]["finalizers"] = ["tests/holds"]
    wait_for(lambda: applied(admin, wanted), "the list is seen")
    admin.apply(CONFIG_MAPS, allowed(NAMESPACE, [order(1)]))
    changed = copy.deepcopy(wanted)
    changed["spec"]["predictor"]["minReplicas"] = 3
    wait_for(lambda: "not listed" in verdict(admin, changed), "the withdrawal is seen")
    admin.delete(SERVICES, "digits", NAMESPACE)
    wanted["metadata"].pop("finalizers")
    admin.apply(SERVICES, wanted)
    assert admin.list(SERVICES, NAMESPACE)["items"] == []
    admin.apply(CONFIG_MAPS, allowed(NAMESPACE, [order(1), order(2)]))


def applied(kube: Kube, wanted: Object) -> bool:
    try:
        kube.apply(SERVICES, wanted)
    except AiInfraError:
        return False
    return True


def test_the_list_belongs_to_the_role_of_the_backend_alone() -> None:
    writes = [rule for rule in admission.role()["rules"] if "configmaps" in rule["resources"] and "patch" in rule["verbs"]]
    assert [rule["resourceNames"] for rule in writes] == [[ALLOWED]]
