"""Joins predictors with concrete classes: the fork server, the storage initialiser, and the predictor of a folder."""

import logging
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from services.core import backends, logs, object_backends
from services.core.calls import Peer, call, client
from services.core.clock import system_clock
from services.core.errors import BadInput, BadSetting, NotFound
from services.core.objects import CorruptObject, ObjectStore
from services.core.tls import client_context, service_id
from services.core.trust import Trust
from services.serving.errors import LoadRefused
from services.serving.predictor.download import initialise
from services.serving.predictor.folder import VERIFIED, ModelFolder
from services.serving.predictor.loading import Quarantine, Verified, load_verified
from services.serving.predictor.order import Order
from services.serving.predictor.sender import Sender
from services.serving.predictor.source import Source
from services.serving.predictor.spool import Spool
from services.serving.settings import Settings

API_TIMEOUT_S = 5.0


def run_predictors(
    environ: Mapping[str, str], commands: int, events: int, around: Callable[[Any, Any], Any] = lambda order, app: app
) -> None:
    """The fork server of the predictors, until `commands` (a file descriptor) ends.

    around: what stands around KServe's application for one order; a campaign plants its faults there.
    """
    from services.serving.predictor import server
    from services.serving.predictor.forkserver import ForkServer

    _quiet()
    settings = Settings.from_env(environ)
    identity = settings.identity("predictor")

    def serve(value: dict[str, Any], ready: Callable[[int], None]) -> None:
        order = Order.from_json(value)
        reasons = _ask(settings, order.deployment)["reasons"]
        verified = load_verified(order, _objects(settings), _trust(settings), lambda deployment: reasons)
        model = server.ServedModel(verified, server.build_model(verified.files))
        model.warm_up()
        server.serve(model, identity, server.BESIDE_THE_ROUTER, ready, lambda app: around(order, app))

    ForkServer(commands, events, serve).run()


def run_initialiser(environ: Mapping[str, str], uri: str, target: Path) -> Order:
    """Fills the folder that a predictor in a cluster starts from. Answers what lies there.

    Raises:
        BadInput, BadSetting; Unavailable: retry; Quarantined, LoadRefused: do not.
    """
    settings, source = Settings.from_env(environ), Source.parse(uri)
    return initialise(source, target, settings.env, _objects(settings), _trust(settings), _quarantine(settings, source))


def load_mounted(settings: Settings, target: Path) -> Verified:
    """What the initialiser left in a folder, verified again: a container that is restarted is not initialised again, and only who
    loads bytes knows which they are.

    Raises:
        BadSetting; Unavailable: retry; Quarantined, LoadRefused: do not.
    """
    folder = ModelFolder(target / VERIFIED)
    try:
        source = folder.source
        folder.require_complete()
        order = source.order(settings.env, folder)
    except (CorruptObject, NotFound, BadInput) as error:
        raise LoadRefused(f"{folder.root} does not verify: {error}") from error
    return load_verified(order, folder, _trust(settings), _quarantine(settings, source))


def run_mounted(environ: Mapping[str, str], target: Path, port: int, records: Path) -> None:
    """Serves the folder that the initialiser completed, until SIGTERM. Raises as `load_mounted`; BadModel.

    records: folder of prediction records that wait for the API.
    """
    settings = Settings.from_env(environ)
    # First: what is refused need not wait for the imports.
    verified = load_mounted(settings, target)
    from services.serving.predictor import measure, server
    from services.serving.predictor.recording import Limits, Recorded

    _quiet()
    model = server.ServedModel(verified, server.build_model(verified.files))
    model.warm_up()
    identity, order = settings.identity("predictor"), verified.order
    api = Peer(settings.api_url, client_context(identity), timeout_s=API_TIMEOUT_S)
    spool = Spool(records, system_clock)
    sender = Sender(spool, order.deployment, lambda batch: api.call("POST", "/v1/serving/records", batch))
    measure.behind.set_function(lambda: sender.behind_s)
    sender.start()

    def recorded(app: Any) -> Any:
        limits = Limits(settings.max_body, settings.max_in_flight)
        return Recorded(app, spool, order, unrecorded=service_id("api"), limits=limits, clock=system_clock)

    try:
        # uvicorn raises the signal again once it has ended, which must not keep the last records here.
        signal.signal(signal.SIGTERM, lambda *_: None)
        server.serve(model, identity, server.in_cluster(port), lambda port: None, recorded)
    finally:
        sender.stop()
        spool.close()
        api.close()


def _quarantine(settings: Settings, source: Source) -> Quarantine:
    """In a cluster the order is not the API's word: so the API says too which manifest the deployment is of."""

    def reasons(deployment: str) -> list[str]:
        found = _ask(settings, deployment)
        if found["manifest"] != source.manifest:
            raise LoadRefused(f"deployment {deployment} is of manifest {found['manifest']}, not of {source.manifest}")
        listed: list[str] = found["reasons"]
        return listed

    return reasons


def _ask(settings: Settings, deployment: str) -> dict[str, Any]:
    with client(settings.api_url, settings.identity("predictor"), timeout_s=API_TIMEOUT_S) as api:
        found: dict[str, Any] = call(api, "GET", f"/v1/serving/quarantine/{deployment}")
        return found


def _objects(settings: Settings) -> ObjectStore:
    module = backends.load(object_backends, settings.object_backend, env=settings.env)
    store: ObjectStore = module.open_store(settings.object_location)
    return store


def _trust(settings: Settings) -> Trust:
    """Raises BadSetting."""
    try:
        return Trust.parse(settings.trust.read_bytes())
    except OSError as error:
        raise BadSetting(f"AI_INFRA_TRUST={settings.trust}: {error.strerror}") from error


def _quiet() -> None:
    """Before a model is served."""
    import torch

    torch.set_num_threads(1)
    logs.configure("predictor", logging.WARNING)
    # KServe logs a stack trace for each bad request: clients must not fill our disk.
    logging.getLogger("kserve").setLevel(logging.CRITICAL)
