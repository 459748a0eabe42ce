"""How many pods the two sides of a rollout have, on a real API server. KServe is a stand-in that counts as its controller does."""

from services.core.kube import PODS, Kube
from services.serving.inference import DEPLOYMENT
from tests.fakes.kserve import KServeStandIn
from tests.kube.rig import Rig


def test_stable_keeps_its_pods_when_kserve_takes_those_of_a_ready_canary_off_it(rig: Rig, kube: Kube) -> None:
    kserve = KServeStandIn(kube)

    def pods(deployment: str) -> int:
        return len(kube.list(PODS, rig.namespace, labels=f"{DEPLOYMENT}={deployment}")["items"])

    stable = rig.deploy(replicas=3)
    rig.look()
    kserve.look()
    assert pods(stable) == 3
    canary = rig.roll_out()["canary"]
    rig.look()
    kserve.look()
    assert pods(stable) == 3 + pods(canary)
    kserve.look()
    assert (pods(stable), pods(canary) > 0) == (3, True)


def test_stable_calibrates_on_two_pods_beside_a_ready_canary(rig: Rig, kube: Kube) -> None:
    kserve = KServeStandIn(kube)
    stable = rig.deploy()
    rig.roll_out()
    for _ in range(3):
        rig.look()
        kserve.look()
    assert len(kube.list(PODS, rig.namespace, labels=f"{DEPLOYMENT}={stable}")["items"]) == 2
