"""What the gateway needs to reach predictors: policies as they are built, and as the backend `kserve` leaves them behind."""

import copy
from typing import Any

import pytest

from services.core.errors import Refused
from services.core.kube import Kube, Object
from services.serving.gateway import POLICIES, SERVICE, backend_policies, predictor_services
from services.serving.inference import SERVICES, Place, Predictor, inference_service, service_name
from tests.fakes.kserve import KServeStandIn
from tests.kube.apiserver import ApiServer
from tests.kube.objects import order
from tests.kube.rig import ACTOR, NAMESPACES, Rig, reachable, traffic
from tests.serving import wait_for

PLACE = Place()
STABLE = "digits-predictor"


def canary_of(rollout: dict[str, Any]) -> str:
    return f"digits-v2-{rollout['canary'][-8:]}-predictor"


def becomes(kube: Kube, rig: Rig, *services: str) -> None:
    def done() -> bool:
        rig.look()
        return reachable(kube, rig.place) == sorted(services)

    wait_for(done, f"the gateway reaches {services}")


def built(number: int = 1, canary: int | None = None, model: str = "digits") -> Object:
    second = None if canary is None else Predictor(order=order(canary, model), replicas=1)
    return inference_service(PLACE, Predictor(order=order(number, model), replicas=1), second)


def test_each_predictor_is_reached_by_tls_and_known_by_its_identity_under_our_authority() -> None:
    stable, canary = backend_policies(PLACE, built(1, 2))
    assert stable["metadata"]["name"] == STABLE
    assert stable["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "ai-infra", SERVICE: "digits"}
    assert stable["spec"] == {
        "targetRefs": [{"group": "", "kind": "Service", "name": STABLE}],
        "validation": {
            "hostname": "predictor",
            "subjectAltNames": [{"type": "URI", "uri": "spiffe://ai-infra.local/service/predictor"}],
            "caCertificateRefs": [{"group": "", "kind": "Secret", "name": "predictor-tls"}],
        },
    }
    [target] = canary["spec"]["targetRefs"]
    assert target["name"] == canary["metadata"]["name"] == "digits-v2-00000002-predictor"
    assert canary["spec"]["validation"] == stable["spec"]["validation"]


@pytest.mark.parametrize("model", ["x" * 36, "y" * 37, "Model_with.dots" * 9])
def test_names_of_services_are_never_too_long(model: str) -> None:
    names = predictor_services(built(1, 999_999, model))
    assert names[0] == f"{service_name(model)}-predictor"
    assert max(map(len, names)) <= 63


BROKEN = {
    "no authority": (("caCertificateRefs",), [], "CACertificateRefs"),
    "an authority of everybody beside ours": (("wellKnownCACertificates",), "System", "both"),
    "an identity that is no URI": (("subjectAltNames", 0, "uri"), "predictor", "uri"),
    "an identity of another type": (("subjectAltNames", 0, "type"), "Hostname", "Hostname"),
    "no name": (("hostname",), "", "hostname"),
}


@pytest.fixture
def namespace(kube: Kube) -> str:
    name = PLACE.of("staging")
    kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def test_what_is_built_passes_a_strict_dry_run(kube: Kube, namespace: str) -> None:
    for policy in backend_policies(PLACE, built(1, 2)):
        assert kube.apply(POLICIES, policy, dry_run=True)["metadata"]["namespace"] == namespace


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_copy_is_refused(kube: Kube, namespace: str, name: str) -> None:
    path, value, said = BROKEN[name]
    policy = copy.deepcopy(backend_policies(PLACE, built())[0])
    found: Any = policy["spec"]["validation"]
    for step in path[:-1]:
        found = found[step]
    found[path[-1]] = value
    with pytest.raises(Refused, match=said):
        kube.apply(POLICIES, policy, dry_run=True)


def test_a_deployment_is_reached_and_no_longer_when_it_is_gone(rig: Rig, kube: Kube, kserve: KServeStandIn) -> None:
    stable = rig.deploy()
    becomes(kube, rig, STABLE)
    rig.serving.undeploy(stable, ACTOR)
    becomes(kube, rig)


def test_a_canary_is_reached_before_it_has_traffic_and_alone_once_it_is_promoted(
    rig: Rig, kube: Kube, kserve: KServeStandIn
) -> None:
    stable = rig.deploy()
    rig.look()
    rollout = rig.roll_out()
    becomes(kube, rig, STABLE, canary_of(rollout))
    assert kube.get(SERVICES, "digits", rig.namespace)["spec"]["canary"][0]["trafficPercent"] == 0
    rig.reach(rollout["id"], "running")
    for weight in (0.1, 0.5):
        rig.now += 3_600_000
        traffic(rig, stable, rollout["canary"], weight)
        rig.rollouts.advance(rollout["id"])
        rig.look()
    rig.reach(rollout["id"], "completed")
    # It is stable now, whose Service has one name for all versions.
    becomes(kube, rig, STABLE)


def test_a_canary_that_is_rolled_back_is_no_longer_reached(rig: Rig, kube: Kube, kserve: KServeStandIn) -> None:
    rig.deploy()
    rig.look()
    rollout = rig.roll_out()
    kserve.broken[rollout["canary"]] = "the manifest is for prod"
    rig.reach(rollout["id"], "rolled_back")
    becomes(kube, rig, STABLE)


def test_a_quarantined_model_is_not_reached_and_is_again_when_lifted(rig: Rig, kube: Kube, kserve: KServeStandIn) -> None:
    stable = rig.deploy()
    rig.look()
    rig.serving.quarantine([stable], "poisoned data", ACTOR)
    becomes(kube, rig)
    rig.serving.lift([stable], ACTOR)
    becomes(kube, rig, STABLE)


def test_a_canary_is_reached_until_kserve_has_seen_that_it_is_gone(rig: Rig, kube: Kube, cluster: ApiServer) -> None:
    """Without KServe, whose routes would lead there still."""
    rig.deploy()
    rollout = rig.roll_out()
    rig.look()
    rig.rollouts.abort(rollout["id"], "not today", ACTOR)
    wait_for(lambda: _looked(rig, kube), "the service has no canary")
    for _ in range(5):
        rig.look()
    assert reachable(kube, rig.place) == sorted([STABLE, canary_of(rollout)])
    with KServeStandIn(Kube(cluster.access(), "kserve-stand-in")):
        becomes(kube, rig, STABLE)


def _looked(rig: Rig, kube: Kube) -> bool:
    rig.look()
    return bool(kube.get(SERVICES, "digits", rig.namespace)["spec"]["canary"] == [])


def test_what_somebody_else_changes_or_deletes_is_restored(rig: Rig, kube: Kube, cluster: ApiServer) -> None:
    rig.deploy()
    becomes(kube, rig, STABLE)
    wanted = kube.get(POLICIES, STABLE, rig.namespace)
    theirs = {
        "apiVersion": wanted["apiVersion"],
        "kind": wanted["kind"],
        "metadata": {"name": STABLE, "namespace": rig.namespace},
        "spec": {"validation": {"subjectAltNames": [{"type": "Hostname", "hostname": "predictor"}]}},
    }
    Kube(cluster.access(), "somebody").apply(POLICIES, theirs, force=True)

    def restored() -> bool:
        rig.look()
        spec = kube.get(POLICIES, STABLE, rig.namespace)["spec"]
        return bool(spec["validation"]["subjectAltNames"] == wanted["spec"]["validation"]["subjectAltNames"])

    wait_for(restored, "our fields are ours again")
    kube.delete(POLICIES, STABLE, rig.namespace)
    becomes(kube, rig, STABLE)
