"""Describes the Python environment of this machine: what a container image's digest would stand for. Reads, changes nothing.

The description holds what can change a trained model's bytes (interpreter, packages, C library, vector instructions) and
nothing that cannot (host name, paths, kernel, time).
"""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from services.core.canonical import canonical
from services.core.digests import sha256

VECTOR_FLAGS = ("avx", "avx2", "avx512bw", "avx512dq", "avx512f", "avx512vl", "avx512_bf16", "amx_bf16", "fma", "asimd", "sve")
"""CPU features by which torch and its libraries choose their kernels."""

TRAINING_VARIABLES = {
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
"""Environment variables of every trainer: one thread, so that sums have one order."""


@dataclass(frozen=True)
class Environment:
    """settings: goes into a run's recorded inputs as it is; packages: name → version."""

    settings: Mapping[str, str]
    packages: Mapping[str, str]

    @property
    def description(self) -> bytes:
        """Canonical bytes; their digest stands for the image."""
        return canonical({"settings": dict(self.settings), "packages": dict(self.packages)})

    @property
    def image(self) -> str:
        return sha256(self.description)


def describe() -> Environment:
    """This process's environment: the trainer starts from the same interpreter."""
    settings = {
        "cpu": " ".join(_vector_flags()),
        "libc": "-".join(platform.libc_ver()),
        "platform": f"{sys.platform}-{platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    packages = {}
    for distribution in metadata.distributions():
        # The project itself is left out: which code trains is the code reference's matter, and its version changes no weight.
        name = str(distribution.metadata["Name"]).lower().replace("_", "-")
        if name != "ai-infra":
            packages[name] = distribution.version
    return Environment(settings | TRAINING_VARIABLES, packages)


def _vector_flags() -> list[str]:
    path = Path("/proc/cpuinfo")
    words = set(path.read_text().split()) if path.exists() else set()
    return sorted(words.intersection(VECTOR_FLAGS))
