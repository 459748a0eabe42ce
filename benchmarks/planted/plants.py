"""Faults around a predictor's application: slower, failing, wrong or hung by a known amount.

Every version has the same small noise, so that a fault is what differs and nothing else: failures by coin, wrong labels by row and
version.
"""

import asyncio
import hashlib
import json
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

FILE = "planted.json"
INFER = "/infer"


MODEL_S, SPREAD = 0.03, 0.3
"""Median seconds that the model of every version takes for a request, and the spread of their logarithms: as of a model on an
accelerator, beside which two busy cores matter less."""


@dataclass(frozen=True, kw_only=True)
class Plant:
    """What a version does. factor: of the predictor's time for an answer, for a share of the requests; errors: share of requests
    that fail; wrong: share of rows answered wrongly; wrong_class, wrong_in_class: the same for the rows of one label; hang_after:
    requests until it answers nothing more, its health probes included; cold: first requests that take ten times as long. Golden
    probes come many rows at a time: they have labels only, and count for neither."""

    factor: float = 1.0
    share: float = 1.0
    errors: float = 0.005
    wrong: float = 0.03
    wrong_class: str = ""
    wrong_in_class: float = 0.0
    hang_after: int | None = None
    cold: int = 0


def write_plants(file: Path, plants: dict[int, Plant]) -> None:
    """What predictors that start from now on find, by version number; others are as good as stable."""
    file.write_text(json.dumps({str(number): asdict(plant) for number, plant in plants.items()}))


def plant_of(file: Path, number: int) -> Plant:
    found = json.loads(file.read_text()) if file.exists() else {}
    return Plant(**found.get(str(number), {}))


class Planted:
    """The application with its plant. number: of the version: each version errs on rows of its own."""

    def __init__(self, app: ASGIApp, plant: Plant, number: int) -> None:
        self._app, self._plant, self._number = app, plant, number
        self._seen = 0
        self._rng = random.Random(time.time_ns())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._plant.hang_after is not None and self._seen >= self._plant.hang_after:
            # The whole process hangs: not even the health probe is answered.
            time.sleep(3600)
        if not scope["path"].endswith(INFER):
            await self._app(scope, receive, send)
            return
        await self._infer(scope, receive, send)

    async def _infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.monotonic()
        sent = bytearray()
        answer: list[Message] = []

        async def reading() -> Message:
            message = await receive()
            sent.extend(message.get("body", b""))
            return message

        async def keeping(message: Message) -> None:
            answer.append(message)

        await self._app(scope, reading, keeping)
        rows = _rows(bytes(sent))
        self._seen += len(rows) == 1
        start, body = answer[0], b"".join(message.get("body", b"") for message in answer[1:])
        if len(rows) == 1 and self._rng.random() < self._plant.errors:
            start, body = start | {"status": 500}, b'{"error": "planted"}'
        elif start["status"] == 200:
            body = self._relabelled(rows, body)
        if len(rows) == 1:
            await asyncio.sleep(MODEL_S * self._rng.lognormvariate(0, SPREAD))
            # Of all that the answer took, waiting for a busy core too: else twice the model's time would be less than twice.
            await asyncio.sleep((self._factor() - 1) * (time.monotonic() - begun))
        headers = [item for item in start["headers"] if item[0] != b"content-length"]
        await send(start | {"headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})

    def _factor(self) -> float:
        if self._seen <= self._plant.cold:
            return 10.0
        return self._plant.factor if self._rng.random() < self._plant.share else 1.0

    def _relabelled(self, rows: list[list[float]], body: bytes) -> bytes:
        found: dict[str, Any] = json.loads(body)
        output = next(item for item in found["outputs"] if item["name"] == "label")
        output["data"] = [self._label(row, label) for row, label in zip(rows, output["data"], strict=True)]
        return json.dumps(found).encode()

    def _label(self, row: list[float], label: str) -> str:
        plant = self._plant
        wrong = _share(f"class {row}") < plant.wrong_in_class if label == plant.wrong_class else False
        # The first 3 % are each version's own errors; what goes beyond is the plant's.
        return "?" if wrong or _share(f"{self._number} {row}") < plant.wrong else label


def _share(text: str) -> float:
    """Of the text, in [0, 1): the same for the same row, whoever asks."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _rows(body: bytes) -> list[list[float]]:
    tensor = json.loads(body)["inputs"][0]
    count, width = tensor["shape"]
    data = tensor["data"]
    return [data[index * width : (index + 1) * width] for index in range(count)]
