"""Compute and policy for the tests of training: they do what the test says."""

import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from services.core.events import Subject
from services.registry.ports import Decision
from services.training.environment import Environment
from services.training.ports import Order, Progress, Usage

DIGEST = "sha256:" + "0" * 64


class FakeCompute:
    """Implements ComputeBackend. A submitted run runs until the test calls `finish` or `fail`."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.stopped: list[str] = []
        self.states: dict[str, Progress] = {}
        self.reported: dict[str, list[dict[str, Any]]] = {}
        self.used: dict[str, Usage] = {}
        self._folder = tempfile.TemporaryDirectory()

    def submit(self, order: Order) -> None:
        if self.states.get(order.run_id) != Progress("running"):
            self.orders.append(order)
            self.states[order.run_id] = Progress("running")

    def poll(self, run_id: str) -> Progress:
        return self.states.get(run_id, Progress("unknown"))

    def events(self, run_id: str, after: int) -> list[dict[str, Any]]:
        return self.reported.get(run_id, [])[after:]

    def output(self, run_id: str) -> Path:
        folder = Path(self._folder.name) / run_id
        folder.mkdir(exist_ok=True)
        return folder

    def environment(self) -> Environment:
        return Environment({"python": "a test's"}, {})

    def usage(self, run_id: str) -> Usage | None:
        return self.used.get(run_id)

    def held(self) -> set[str]:
        return set(self.states)

    def cancel(self, run_id: str) -> None:
        self.stopped.append(run_id)
        self.states.pop(run_id, None)

    def forget(self, run_id: str) -> None:
        self.states.pop(run_id, None)

    def close(self) -> None:
        self._folder.cleanup()

    def finish(self, run_id: str, files: dict[str, bytes] | None = None, finished_at: int = 2_000_000) -> None:
        """The run wrote these files and ended well."""
        default = {"model.safetensors": b"weights", "config.json": b"{}", "README.md": b"a card"}
        for path, data in (default if files is None else files).items():
            (self.output(run_id) / path).write_bytes(data)
        self.reported.setdefault(run_id, [{"epoch": 1, "loss": 0.5}])
        self.states[run_id] = Progress("completed", finished_at)

    def fail(self, run_id: str, reason: str) -> None:
        self.states[run_id] = Progress("failed", error=reason)


class FakePolicy:
    """Implements Policy. verdict and rules: of every decision from now on; asked: the facts of each."""

    def __init__(self) -> None:
        self.verdict = "pass"
        self.rules: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []

    def decide(self, action: str, facts: dict[str, Any], subject: Subject, actor: str) -> Decision:
        self.asked.append(facts)
        return Decision(
            id=f"decision-{len(self.asked)}", verdict=self.verdict, rules=self.rules, revision=DIGEST, input_digest=DIGEST, at=1000
        )

    def revision(self, connection: Connection | None = None) -> str:
        return DIGEST
