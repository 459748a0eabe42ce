"""One model behind KServe's REST server (Open Inference Protocol v2), over mTLS and for who may call it only.

KServe's `ModelServer.start` takes no CA for clients, so its FastAPI application runs here under our own uvicorn.
"""

import asyncio
import re
import socket
import warnings
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import kserve.model_server
import numpy
import torch
import uvicorn
import uvloop
from fastapi.exceptions import FastAPIDeprecationWarning
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelRepository
from kserve.errors import InvalidInput
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from services.core.http import TlsIdentityProtocol, bound
from services.core.ids import new_id
from services.core.renewal import renew
from services.core.tls import Identity, server_context, service_id
from services.serving.errors import BadModel
from services.serving.models import mlp
from services.serving.predictor.loading import Verified
from services.serving.predictor.measure import Measured

WEIGHTS = re.compile(r"[^/]+\.safetensors")
CONFIG = "config.json"
INFERENCE = re.compile(r"/v2(/health/(live|ready)|/models/[^/]+(/ready|/infer)?)?")
"""The Open Inference Protocol v2. Danger: KServe's server also loads and unloads models, and answers older protocols."""
METRICS = "/metrics"
MAX_ROWS = 4096
GRACE_S = 2

Around = Callable[[ASGIApp], ASGIApp]

# KServe's response class is deprecated, which FastAPI would say again for each process.
warnings.filterwarnings("ignore", category=FastAPIDeprecationWarning)


def build_model(files: Mapping[str, bytes]) -> mlp.Mlp:
    """The model in verified bytes: config.json and one safetensors file at the tree's root. Raises BadModel."""
    weights = [path for path in files if WEIGHTS.fullmatch(path)]
    if CONFIG not in files or len(weights) != 1:
        raise BadModel(f"the artifact holds {sorted(files)}: want {CONFIG} and one .safetensors file")
    try:
        tensors = load_safetensors(files[weights[0]])
    except SafetensorError as error:
        raise BadModel(f"{weights[0]}: {error}") from error
    return mlp.build(files[CONFIG], tensors)


class ServedModel(Model):  # type: ignore[misc]  # kserve has no types
    """Answers with `label` (BYTES, after the label map) and `scores` (FP32); model_version is the version's number."""

    def __init__(self, verified: Verified, model: mlp.Mlp) -> None:
        super().__init__(verified.order.model)
        self._order, self._model = verified.order, model
        self._parameters = {"deployment": verified.order.deployment, "artifact_id": verified.order.artifact_id}
        self.enable_latency_logging = False
        self.ready = True

    @property
    def deployment(self) -> str:
        return self._order.deployment

    def get_input_types(self) -> list[dict[str, Any]]:
        return [{"name": "input", "datatype": "FP32", "shape": [-1, self._model.width]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        scores = {"name": "scores", "datatype": "FP32", "shape": [-1, len(self._model.labels)]}
        return [{"name": "label", "datatype": "BYTES", "shape": [-1]}, scores]

    def predict(self, payload: InferRequest, headers: dict[str, str] | None = None) -> InferResponse:
        """Synchronous on purpose: one request at a time on one thread, so that latency is the model's own."""
        labels, scores = self._model.predict(self._rows(payload.inputs))
        outputs = [
            InferOutput("label", [len(labels)], "BYTES", data=labels),
            InferOutput("scores", list(scores.shape), "FP32", data=scores.flatten().tolist()),
        ]
        return InferResponse(
            payload.id or (headers or {}).get("x-request-id") or new_id("inf"),
            self._order.model,
            outputs,
            model_version=str(self._order.number),
            parameters=dict(self._parameters),
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )

    def _rows(self, inputs: list[InferInput]) -> torch.Tensor:
        if len(inputs) != 1:
            raise InvalidInput(f"{len(inputs)} inputs: want one tensor of shape [n, {self._model.width}]")
        try:
            values = inputs[0].as_numpy().astype(numpy.float32)
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"input {inputs[0].name!r}: {error}") from error
        if values.ndim != 2 or values.shape[1] != self._model.width or not 1 <= values.shape[0] <= MAX_ROWS:
            raise InvalidInput(f"input of shape {list(values.shape)}: want [1…{MAX_ROWS}, {self._model.width}]")
        if not numpy.isfinite(values).all():
            raise InvalidInput("an input value is not finite")
        return torch.from_numpy(values)

    def warm_up(self) -> None:
        """Runs the network once, so that the first request does not pay for lazy initialisation."""
        self._model.predict(torch.zeros(1, self._model.width))


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where a predictor is reached, and by which services. port: 0 takes a free one; callers: may ask for predictions, and no more;
    scrapers: may read /metrics, and no more; probers: of the callers, those that ask golden probes, which are no traffic."""

    host: str
    port: int
    callers: frozenset[str]
    scrapers: frozenset[str]
    probers: frozenset[str] = frozenset()

    def opens(self, caller: str | None, path: str) -> bool:
        if path == METRICS:
            return caller in self.scrapers
        return caller in self.callers and INFERENCE.fullmatch(path) is not None


ROUTER = frozenset({service_id("router")})
BESIDE_THE_ROUTER = Door(host="127.0.0.1", port=0, callers=ROUTER, scrapers=ROUTER)


def in_cluster(port: int) -> Door:
    """The gateway brings predictions, the API its probes."""
    probers = frozenset({service_id("api")})
    callers, scrapers = probers | {service_id("gateway")}, frozenset({service_id("prometheus")})
    return Door(host="0.0.0.0", port=port, callers=callers, scrapers=scrapers, probers=probers)  # noqa: S104  # a pod's


class _Guarded:
    """Refuses every client, and every path, that the door does not open to."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._door.opens(scope.get("spiffe_id"), scope["path"]):
            callers = ", ".join(sorted(self._door.callers))
            refusal = f"only {callers} may call a predictor, and only by the Open Inference Protocol v2"
            await JSONResponse({"error": refusal}, 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def application(model: ServedModel, door: Door, around: Around) -> ASGIApp:
    """KServe's application with this one model. Once in a process: KServe keeps the application in a module."""
    repository = ModelRepository()
    repository.update(model)
    extension = ModelRepositoryExtension(model_registry=repository)
    rest = RESTServer("kserve.model_server:app", DataPlane(model_registry=repository), extension, http_port=0)
    rest.create_application()
    return _Guarded(Measured(around(kserve.model_server.app), model.deployment, door.probers), door)


def serve(
    model: ServedModel, identity: Identity, door: Door, ready: Callable[[int], None], around: Around = lambda app: app
) -> None:
    """Serves until SIGTERM. ready: called with the port when requests are taken. Raises BadSetting: the port is taken."""
    config = uvicorn.Config(
        application(model, door, around), http=TlsIdentityProtocol, log_config=None, access_log=False, timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S, lifespan="off", ssl_certfile=identity.cert, ssl_keyfile=identity.key,
    )
    config.load()
    config.ssl = server_context(identity)
    with bound(door.host, door.port) as listener:
        uvloop.run(_serve(uvicorn.Server(config), listener, ready, renew(identity)))


async def _serve(
    server: uvicorn.Server, listener: socket.socket, ready: Callable[[int], None], renewing: Coroutine[Any, Any, None]
) -> None:
    renewal = asyncio.ensure_future(renewing)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    if server.started:
        ready(listener.getsockname()[1])
    await serving
    renewal.cancel()
