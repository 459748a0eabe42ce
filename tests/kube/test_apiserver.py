"""The client against a real API server: what it refuses and how a caller sees it."""

import pytest

from services.core.errors import NotFound, Refused
from services.core.kube import FieldConflict, Kube, Resource
from tests.kube.apiserver import WATCHER, ApiServer
from tests.kube.conftest import DEFINITIONS, definitions

MAPS = Resource("", "v1", "configmaps")


def config(name: str, **data: str) -> dict[str, object]:
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def test_every_custom_resource_definition_is_served(kube: Kube) -> None:
    served = {item["metadata"]["name"] for item in kube.list(DEFINITIONS)["items"]}
    assert len(served) == len(definitions())
    assert {"inferenceservices.serving.kserve.io", "rayjobs.ray.io", "clusterqueues.kueue.x-k8s.io"} <= served
    assert {"backendtlspolicies.gateway.networking.k8s.io", "envoyproxies.gateway.envoyproxy.io"} <= served


def test_the_same_object_applied_twice_is_written_once(kube: Kube) -> None:
    first = kube.apply(MAPS, config("twice", a="1"))
    assert kube.apply(MAPS, config("twice", a="1"))["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_a_field_left_out_is_removed(kube: Kube) -> None:
    kube.apply(MAPS, config("less", a="1", b="2"))
    assert kube.apply(MAPS, config("less", a="1"))["data"] == {"a": "1"}


def test_another_managers_field_is_a_conflict_until_forced(kube: Kube, cluster: ApiServer) -> None:
    other = Kube(cluster.access(), "somebody")
    kube.apply(MAPS, config("shared", a="1"))
    other.apply(MAPS, config("shared", a="2"), force=True)
    with pytest.raises(FieldConflict, match="somebody"):
        kube.apply(MAPS, config("shared", a="1"))
    assert kube.apply(MAPS, config("shared", a="1"), force=True)["data"] == {"a": "1"}


def test_an_unknown_field_is_refused(kube: Kube) -> None:
    with pytest.raises(Refused, match="colour"):
        kube.apply(MAPS, config("odd") | {"colour": "red"})


def test_a_dry_run_leaves_nothing(kube: Kube) -> None:
    kube.apply(MAPS, config("dry", a="1"), dry_run=True)
    with pytest.raises(NotFound):
        kube.get(MAPS, "dry", "default")


def test_who_has_no_role_may_read_nothing(cluster: ApiServer) -> None:
    nobody = Kube(cluster.access(WATCHER), "nobody")
    with pytest.raises(Refused, match="nobody"):
        nobody.list(MAPS, "default")


def test_deleting_what_is_gone_is_fine(kube: Kube) -> None:
    kube.apply(MAPS, config("gone"))
    kube.delete(MAPS, "gone", "default")
    kube.delete(MAPS, "gone", "default")
    with pytest.raises(NotFound):
        kube.get(MAPS, "gone", "default")
