"""The serving backend `kserve` on a real API server: rollouts, competing writers, restarts, kills. KServe itself is a stand-in."""

import logging
import ssl
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from services.core.errors import BadInput, NotFound, Unavailable
from services.core.kube import WATCH_S, Kube, Resource
from services.core.kubewatch import Mirror
from services.serving.backends.kserve import PODS
from services.serving.domain import DeploymentSpec
from services.serving.inference import ALLOWED, CONFIG_MAPS, DEPLOYMENT, MANAGED, SELECTOR, SERVICES, Place, Split
from tests.fakes.kserve import KServeStandIn
from tests.kube.apiserver import SERVING, ApiServer
from tests.kube.conftest import definitions, install
from tests.kube.rig import (
    ACTOR,
    NAMESPACES,
    PROBES,
    Blinking,
    Dying,
    Killed,
    Overtaken,
    Rig,
    grant,
    led_to,
    new_place,
    open_rig,
    probing,
    reachable,
    seen,
    servable,
    traffic,
)
from tests.serving import wait_for

ACCOUNTS = Resource("", "v1", "serviceaccounts")


def test_a_deployment_is_served_and_listed(rig: Rig, kube: Kube, kserve: KServeStandIn) -> None:
    stable = rig.deploy()
    rig.look()
    assert seen(kube, rig.place) == {"services": {"digits": (stable, [])}, "listed": [stable]}
    wait_for(lambda: rig.backend.health(stable).ready == 1, "the predictor is ready")
    assert rig.backend.health(stable).refused == ""


def test_nothing_is_written_twice(rig: Rig, kube: Kube) -> None:
    rig.deploy()
    rig.look()
    before = kube.get(SERVICES, "digits", rig.namespace)["metadata"]
    for _ in range(5):
        rig.look()
    with open_rig(rig.root, rig.access, rig.place) as second:
        second.look()
    after = kube.get(SERVICES, "digits", rig.namespace)["metadata"]
    assert (after["resourceVersion"], after["generation"]) == (before["resourceVersion"], 1)


def test_a_canary_starts_without_traffic_gets_its_weights_and_is_promoted(rig: Rig, kube: Kube, kserve: KServeStandIn) -> None:
    stable = rig.deploy()
    rig.look()
    rollout = rig.roll_out()
    rig.look()
    canary = rollout["canary"]
    assert seen(kube, rig.place)["services"] == {"digits": (stable, [(canary, 0)])}
    rig.reach(rollout["id"], "running")
    assert seen(kube, rig.place)["services"] == {"digits": (stable, [(canary, 10)])}
    begun = rig.now
    rig.now += 3_600_000
    traffic(rig, stable, canary, 0.1)
    rig.rollouts.advance(rollout["id"])
    rig.look()
    assert seen(kube, rig.place)["services"] == {"digits": (stable, [(canary, 50)])}
    split = Split.of(kube.get(SERVICES, "digits", rig.namespace))
    assert split == Split(rollout=rollout["id"], phases=((0.1, begun), (0.5, rig.now)))
    rig.now += 3_600_000
    traffic(rig, stable, canary, 0.5)
    rig.reach(rollout["id"], "completed")
    assert seen(kube, rig.place) == {"services": {"digits": (canary, [])}, "listed": [canary]}


def test_a_failing_canary_is_rolled_back(rig: Rig, kube: Kube, kserve: KServeStandIn) -> None:
    stable = rig.deploy()
    rig.look()
    rollout = rig.roll_out()
    rig.reach(rollout["id"], "running")
    rig.now += 3_600_000
    traffic(rig, stable, rollout["canary"], 0.1, failing=40)
    rig.rollouts.advance(rollout["id"])
    rig.look()
    found = rig.rollouts.get(rollout["id"])
    assert (found["state"], found["verdict"]["cause"]) == ("rolled_back", "errors")
    assert seen(kube, rig.place) == {"services": {"digits": (stable, [])}, "listed": [stable]}


def test_a_canary_that_once_did_not_answer_makes_no_pairs_and_is_asked_again(
    kube: Kube, cluster: ApiServer, place: Place, tmp_path: Path, kserve: KServeStandIn
) -> None:
    """One request carries many probes: were each of them wrong, one lost connection would end a rollout."""
    grant(kube, place)
    answers, silent = probing(lambda path: True), []

    def predictor(request: httpx.Request) -> httpx.Response:
        refuses = bool(silent) and silent.pop(0)
        return httpx.Response(503) if refuses else answers.post(request.url, content=request.content)

    with open_rig(
        tmp_path, cluster.access(SERVING), place, predictors=httpx.Client(transport=httpx.MockTransport(predictor))
    ) as rig:
        rig.deploy()
        rig.look()
        rollout = rig.roll_out()["id"]
        rig.reach(rollout, "running")
        silent += [False, True]
        with pytest.raises(Unavailable, match="did not answer the probes"):
            rig.backend.answer(rollout, PROBES[:3])
        found = rig.backend.answer(rollout, PROBES[:3])
        assert [(pair.probe, pair.stable, pair.canary) for pair in found] == [(p.id, p.label, p.label) for p in PROBES[:3]]


def test_a_canary_that_kserve_cannot_load_is_rolled_back_with_its_words(rig: Rig, kube: Kube, kserve: KServeStandIn) -> None:
    stable = rig.deploy()
    rig.look()
    rollout = rig.roll_out()
    kserve.broken[rollout["canary"]] = "the manifest is for prod"
    rig.reach(rollout["id"], "rolled_back")
    assert "the manifest is for prod" in rig.rollouts.get(rollout["id"])["reason"]
    assert seen(kube, rig.place)["services"] == {"digits": (stable, [])}


def test_a_stable_that_kserve_cannot_load_says_why(rig: Rig, kserve: KServeStandIn) -> None:
    stable = rig.deploy()
    kserve.broken[stable] = "the bytes have another digest"
    rig.look()
    wait_for(lambda: rig.backend.health(stable).refused, "KServe's word arrives")
    assert rig.backend.health(stable).refused == "the bytes have another digest"


def test_a_quarantined_model_is_off_the_list_and_gone_and_comes_back_when_lifted(rig: Rig, kube: Kube) -> None:
    stable = rig.deploy()
    rig.look()
    rig.serving.quarantine([stable], "poisoned data", ACTOR)
    rig.look()
    assert seen(kube, rig.place) == {"services": {}, "listed": []}
    rig.serving.lift([stable], ACTOR)
    rig.look()
    assert seen(kube, rig.place) == {"services": {"digits": (stable, [])}, "listed": [stable]}


def test_an_undeployed_model_is_gone(rig: Rig, kube: Kube) -> None:
    stable = rig.deploy()
    rig.look()
    rig.serving.undeploy(stable, ACTOR)
    rig.look()
    assert seen(kube, rig.place) == {"services": {}, "listed": []}


def test_what_a_competing_writer_changes_is_taken_back(
    rig: Rig, kube: Kube, cluster: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    stable = rig.deploy()
    rig.look()
    wanted = kube.get(SERVICES, "digits", rig.namespace)
    meta = {"name": "digits", "namespace": rig.namespace}
    theirs = {"apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": meta}
    theirs["spec"] = {"predictor": {"minReplicas": 7}}
    Kube(cluster.access(), "somebody").apply(SERVICES, theirs, force=True)
    assert kube.get(SERVICES, "digits", rig.namespace)["spec"]["predictor"]["minReplicas"] == 7

    def restored() -> bool:
        rig.look()
        return bool(kube.get(SERVICES, "digits", rig.namespace)["spec"] == wanted["spec"])

    wait_for(restored, "our fields are ours again")
    assert "somebody" in caplog.text
    assert seen(kube, rig.place)["services"] == {"digits": (stable, [])}


def test_a_canary_that_somebody_else_adds_is_removed(rig: Rig, kube: Kube, cluster: ApiServer) -> None:
    stable = rig.deploy()
    rig.look()
    spec = kube.get(SERVICES, "digits", rig.namespace)["spec"]
    added = {"predictor": spec["predictor"] | {"name": "theirs"}, "trafficPercent": 90}
    meta = {"name": "digits", "namespace": rig.namespace}
    theirs = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": meta, "spec": {"canary": [added]}}
    Kube(cluster.access(), "somebody").apply(SERVICES, theirs, force=True)

    def restored() -> bool:
        rig.look()
        return bool(seen(kube, rig.place)["services"] == {"digits": (stable, [])})

    wait_for(restored, "their canary is gone")


def test_objects_with_our_labels_in_anothers_namespace_are_left_alone_and_not_believed(rig: Rig, kube: Kube) -> None:
    stable = rig.deploy()
    place = f"theirs-of-{rig.namespace}"
    meta = {"namespace": place, "labels": dict(MANAGED)}
    kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place}})
    kube.apply(ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": place}})
    lists = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta | {"name": ALLOWED}, "data": {stable: "theirs"}}
    kube.apply(CONFIG_MAPS, lists)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "theirs", "namespace": place, "labels": MANAGED | {DEPLOYMENT: stable}},
        "spec": {"containers": [{"name": "x", "image": "x", "ports": [{"containerPort": 8080}]}]},
    }
    kube.apply(PODS, pod)
    rig.look()
    assert rig.backend.health(stable).detail == ()
    assert kube.get(CONFIG_MAPS, ALLOWED, place)["data"] == {stable: "theirs"}
    kube.delete(PODS, "theirs", place)
    kube.delete(CONFIG_MAPS, ALLOWED, place)


def test_what_is_for_another_environment_is_named_and_nothing_of_it_is_written(rig: Rig, kube: Kube) -> None:
    stable = rig.deploy()
    kube.apply(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": rig.place.of("prod")}})
    rig.versions.found["digits", 1] = replace(servable(1), environment="prod")
    rig.serving.deploy(DeploymentSpec(model="digits", number=1, environment="prod"), ACTOR)
    wait_for(lambda: in_touch(rig), "the mirrors are in touch")
    with pytest.raises(Unavailable, match="digits is for prod, and this cluster serves staging"):
        rig.backend.follow(rig.serving.desired)
    assert seen(kube, rig.place) == {"services": {"digits": (stable, [])}, "listed": [stable]}
    assert kube.list(SERVICES, rig.place.of("prod"))["items"] == kube.list(CONFIG_MAPS, rig.place.of("prod"))["items"] == []


def test_what_somebody_deletes_is_made_again(rig: Rig, kube: Kube) -> None:
    stable = rig.deploy()
    rig.look()
    kube.delete(SERVICES, "digits", rig.namespace)

    def restored() -> bool:
        rig.look()
        return bool(kube.list(SERVICES, rig.namespace)["items"])

    wait_for(restored, "the service is there again")
    assert seen(kube, rig.place)["services"] == {"digits": (stable, [])}


def test_what_somebody_makes_anew_under_a_name_is_not_deleted_in_place_of_what_was_ours(
    kube: Kube, cluster: ApiServer, place: Place, tmp_path: Path
) -> None:
    access = cluster.access()
    theirs: list[str] = []

    def made_anew() -> None:
        ours = kube.get(SERVICES, "digits", place.of("staging"))
        kube.delete(SERVICES, "digits", place.of("staging"))
        meta = {"name": "digits", "namespace": place.of("staging")}
        theirs.append(kube.apply(SERVICES, ours | {"metadata": meta})["metadata"]["uid"])

    overtaken = Overtaken(ssl.create_default_context(cafile=str(access.ca)), SERVICES.plural, made_anew)
    with open_rig(tmp_path, access, place, transport=overtaken) as rig:
        stable = rig.deploy()
        rig.look()
        rig.serving.undeploy(stable, ACTOR)
        with pytest.raises(Unavailable, match=r"inferenceservices \S+/digits: .*the UID in the precondition"):
            rig.backend.follow(rig.serving.desired)
        assert [kube.get(SERVICES, "digits", rig.namespace)["metadata"]["uid"]] == theirs
        rig.look()
        assert [kube.get(SERVICES, "digits", rig.namespace)["metadata"]["uid"]] == theirs


def test_two_controllers_agree_on_a_rollouts_times(rig: Rig, kube: Kube, kserve: KServeStandIn) -> None:
    rig.deploy()
    rig.look()
    rollout = rig.roll_out()
    rig.reach(rollout["id"], "running")
    begun = rig.now
    with open_rig(rig.root, rig.access, rig.place, now=begun + 5_000) as second:
        second.look()
        rig.look()
        second.look()
    split = Split.of(kube.get(SERVICES, "digits", rig.namespace))
    assert split is not None
    assert split.phases == ((0.1, begun),)


@pytest.mark.parametrize("answered", [False, True], ids=["before the write", "after the write"])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("step", ["deploy", "roll out", "promote", "roll back", "quarantine"])
def test_a_controller_killed_at_a_write_is_finished_by_the_next(
    kube: Kube, kserve: KServeStandIn, cluster: ApiServer, place: Place, tmp_path: Path, step: str, at: int, answered: bool
) -> None:
    """Writes: the list, the gateway's policies, the service of the model; or its removal."""
    access = cluster.access()
    with open_rig(tmp_path, access, place, predictors=probing(lambda path: True)) as before:
        if step != "deploy":
            before.deploy()
            before.look()
        expected = change(before, step)
    context = ssl.create_default_context(cafile=str(access.ca))
    dying = Dying(context, at, answered)
    with open_rig(tmp_path, access, place, transport=dying) as killed:
        wait_for(lambda: in_touch(killed), "the mirrors are in touch")
        died = False
        try:
            killed.backend.follow(killed.serving.desired)
        except Killed:
            died = True
        assert died == (dying.writes >= at)
    with open_rig(tmp_path, access, place) as after:
        after.look()
        wait_for(lambda: settled(after, kube) == expected, "the next process finishes")
        wait_for(lambda: settled(after, kube) is not None and reachable(kube, place) == led_to(kube, place), "the gateway knows it")


def in_touch(rig: Rig) -> bool:
    try:
        for mirror in rig.backend._mirrors:
            mirror.objects()
    except Unavailable:
        return False
    return True


def settled(rig: Rig, kube: Kube) -> object:
    rig.look()
    try:
        return seen(kube, rig.place)
    except NotFound:
        return None


def change(rig: Rig, step: str) -> object:
    """Changes what is desired; what the cluster has to become."""
    if step == "deploy":
        stable = rig.deploy()
        return {"services": {"digits": (stable, [])}, "listed": [stable]}
    stable = rig.serving.all()[-1]["id"]
    if step == "quarantine":
        rig.serving.quarantine([stable], "poisoned", ACTOR)
        return {"services": {}, "listed": []}
    rollout = rig.roll_out()
    canary = rollout["canary"]
    if step == "roll out":
        return {"services": {"digits": (stable, [(canary, 0)])}, "listed": sorted([stable, canary])}
    rig.reach(rollout["id"], "running")
    if step == "roll back":
        rig.rollouts.abort(rollout["id"], "it is slow", ACTOR)
        return {"services": {"digits": (stable, [])}, "listed": [stable]}
    for weight in (0.1, 0.5):
        rig.look()
        rig.now += 3_600_000
        traffic(rig, stable, canary, weight)
        rig.rollouts.advance(rollout["id"])
    wait_for(lambda: advanced(rig, rollout["id"]) == "completed", "the canary is promoted")
    return {"services": {"digits": (canary, [])}, "listed": [canary]}


def advanced(rig: Rig, rollout: str) -> str:
    rig.rollouts.advance(rollout)
    return str(rig.rollouts.get(rollout)["state"])


def test_a_restarted_api_server_is_found_again_and_an_expired_watch_lists_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kinds = (b"inferenceservices.serving.kserve.io", b"backendtlspolicies.gateway.networking.k8s.io")
    found = [text for text in definitions() if any(kind in text for kind in kinds)]
    (tmp_path / "server").mkdir()
    server = ApiServer(tmp_path / "server")
    server.start()
    try:
        install(server, found)
        admin = Kube(server.access(), "tests")
        place = new_place(admin)
        (tmp_path / "rig").mkdir()
        with open_rig(tmp_path / "rig", server.access(), place) as rig:
            stable = rig.deploy()
            rig.look()
            # History that the watches of services do not see, so that what they ask for is older than the restarted server's.
            for number in range(20):
                meta = {"name": f"other-{number}", "namespace": "default"}
                admin.apply(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
            server.kill()
            with pytest.raises(Unavailable):
                admin.list(SERVICES)
            wait_for(lambda: not in_touch(rig), "the loss is noticed")
            rig.serving.undeploy(stable, ACTOR)
            server.compact()
            server.start()
            rig.look()
            assert seen(admin, place) == {"services": {}, "listed": []}
            assert "the watch expired" in caplog.text
    finally:
        server.stop()


def test_a_mirror_shows_what_is_made_and_removed(cluster: ApiServer, rig: Rig) -> None:
    mirror = Mirror(Kube(cluster.access(), "tests"), SERVICES, SELECTOR, rig.namespace)
    with pytest.raises(Unavailable):
        mirror.objects()
    mirror.start()
    key = (rig.namespace, "digits")
    stable = rig.deploy()
    rig.look()
    wait_for(lambda: _has(mirror, key), "the new service shows")
    rig.serving.undeploy(stable, ACTOR)
    rig.look()
    wait_for(lambda: not _has(mirror, key), "the removed service goes")
    mirror.stop()


def test_a_mirror_of_what_never_changes_is_in_touch_again_once_the_server_took_its_next_watch(cluster: ApiServer, rig: Rig) -> None:
    blinking = Blinking(ssl.create_default_context(cafile=str(cluster.access().ca)))
    mirror = Mirror(Kube(cluster.access(), "tests", blinking), SERVICES, SELECTOR, rig.namespace)
    mirror.start()
    wait_for(lambda: blinking.watches == 2, "the mirror watches again")
    # Well before the server's first bookmark, which comes shortly before the watch ends.
    wait_for(lambda: not _lost(mirror), "the mirror is in touch", timeout_s=WATCH_S / 3)
    mirror.stop()


def _lost(mirror: Mirror) -> bool:
    try:
        return mirror.objects() != {}
    except Unavailable:
        return True


def _has(mirror: Mirror, key: tuple[str, str]) -> bool:
    try:
        return key in mirror.objects()
    except Unavailable:
        return False


def test_a_mirrored_rollout_is_refused_before_anything_happens(rig: Rig) -> None:
    rig.deploy()
    with pytest.raises(BadInput, match="mirror"):
        rig.roll_out(mirror=0.5)
    assert rig.rollouts.all() == []


def test_a_prediction_without_a_record_may_be_on_its_way_for_a_moment(rig: Rig) -> None:
    with pytest.raises(Unavailable, match="not here yet") as refused:
        rig.backend.prediction(f"prd-{rig.now:012x}{0:020x}")
    assert refused.value.retryable
    for unknown in (f"prd-{rig.now - 31_000:012x}{0:020x}", "prd-1"):
        with pytest.raises(NotFound, match="no record"):
            rig.backend.prediction(unknown)


def test_counts_wait_for_prometheus(rig: Rig, kserve: KServeStandIn) -> None:
    rig.deploy()
    rig.look()
    rollout = rig.roll_out()
    rig.reach(rollout["id"], "running")
    rig.now += 3_600_000
    rig.prometheus.away = True
    with pytest.raises(Unavailable, match="Prometheus"):
        rig.rollouts.advance(rollout["id"])
    assert rig.rollouts.get(rollout["id"])["state"] == "running"
