"""What every benchmark shares: rounds in turn, percentiles, rows of figures with their targets. It measures nothing itself.

A benchmark module has `measure(size) -> list[Row]`. Ours and the peer's run in the same process tree, one round of each in turn, so
that a machine that slows down slows both; a ratio is taken within a round, and the median round counts.
"""

import asyncio
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

Better = Literal["lower", "higher"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured. quick: the smallest that shows that a benchmark works; its figures are of no use."""

    quick: bool = False
    rounds: int = 5

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full


FULL, QUICK = Size(), Size(quick=True, rounds=1)


@dataclass(frozen=True)
class Figure:
    """Median over rounds, and between what they lay."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Target:
    """limit: of the ratio where there is a peer to compare with, else of the figure itself."""

    limit: float
    better: Better
    of: Literal["ratio", "figure"]

    def met(self, value: float) -> bool:
        return value <= self.limit if self.better == "lower" else value >= self.limit


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the report. ratio: ours to the peer's; note: how it was measured, in a sentence."""

    work: str
    unit: str
    ours: Figure
    peer: Figure | None = None
    peer_name: str = ""
    ratio: Figure | None = None
    target: Target | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """None: there is no target."""
        if self.target is None:
            return None
        judged = self.ratio if self.target.of == "ratio" else self.ours
        return judged is not None and self.target.met(judged.median)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"met": self.met}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Row":
        """As `to_json` wrote it: the report is drawn from the file, so that it can be drawn again."""
        figures = {name: Figure(**value[name]) if value[name] else None for name in ("ours", "peer", "ratio")}
        target = Target(**value["target"]) if value["target"] else None
        return cls(**{key: item for key, item in value.items() if key not in ("met", "of")} | figures | {"target": target})


def against(
    work: str, unit: str, ours: Sequence[float], peer: Sequence[float], peer_name: str, target: Target | None, note: str = ""
) -> Row:
    """A row of paired rounds: ours[i] and peer[i] were measured one after the other."""
    ratio = Figure.of([a / b for a, b in zip(ours, peer, strict=True)])
    return Row(
        work=work, unit=unit, ours=Figure.of(ours), peer=Figure.of(peer), peer_name=peer_name, ratio=ratio, target=target, note=note
    )


def alone(work: str, unit: str, ours: Sequence[float], target: Target | None = None, note: str = "") -> Row:
    """A row without a peer."""
    return Row(work=work, unit=unit, ours=Figure.of(ours), target=target, note=note)


def in_turn(rounds: int, contenders: Mapping[str, Callable[[], Any]]) -> dict[str, list[Any]]:
    """What each contender answered in each round; every other round goes the other way round."""
    found: dict[str, list[Any]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            found[name].append(contenders[name]())
    return found


def seconds(run: Callable[[], Any]) -> float:
    """Wall clock of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def p95(values: Sequence[float]) -> float:
    """The smallest value that 95 % do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-95 * len(ordered) // 100) - 1)]


@dataclass
class Load:
    """What closed-loop clients saw. latencies: seconds, of the calls that were counted."""

    seconds: float
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def p95_ms(self) -> float:
        return p95(self.latencies) * 1000


def closed_loop(clients: Sequence[Callable[[], Awaitable[None]]], seconds: float) -> Awaitable[Load]:
    """Every client does its work again and again until the time is up; work begun before the end is counted when it ends."""

    async def run() -> Load:
        start = time.perf_counter()
        load = Load(0.0)

        async def client(work: Callable[[], Awaitable[None]]) -> None:
            while (begun := time.perf_counter()) - start < seconds:
                await work()
                load.latencies.append(time.perf_counter() - begun)

        await asyncio.gather(*(client(work) for work in clients))
        load.seconds = time.perf_counter() - start
        return load

    return run()


def machine() -> dict[str, Any]:
    """What the figures were measured on; no name of it."""
    model = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**20),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def say(text: str) -> None:
    """One line of progress, on stderr: stdout is for results."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()
