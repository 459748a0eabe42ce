"""The policies as a program in this process: OPA's compiler makes WebAssembly of a bundle, wasmtime runs it.

It needs no server and answers faster than one over loopback, but OPA's program has to be on this machine. For development, as every
engine in the API's own process. The offline verifier reads the rules themselves (core.rego), and asks no compiler.
"""

import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.core.bundle import Bundle
from services.core.canonical import canonical
from services.core.errors import BadSetting
from services.core.rego import ENTRY_POINT, EvaluationFailed
from services.sentinelnet.errors import PolicyUnavailable
from services.sentinelnet.ports import PolicyEngine
from services.sentinelnet.program import Broken, Program

PRODUCTION = False

TIMEOUT_S = 30.0
PROGRAMS_KEPT = 4
CODE = "/policy.wasm"
"""Its name in what `opa build` writes."""


class WasmEngine:
    """compiler: path of OPA's program."""

    def __init__(self, compiler: str) -> None:
        self._compiler = compiler
        self._programs: OrderedDict[str, Program] = OrderedDict()
        self._lock = threading.Lock()

    def evaluate(self, bundle: Bundle, input_value: Mapping[str, Any]) -> Any:
        question = canonical(dict(input_value))
        with self._lock:
            try:
                found = self._program(bundle).evaluate(question)
            except Broken as error:
                if (broken := self._programs.pop(bundle.revision, None)) is not None:
                    broken.close()
                raise EvaluationFailed(str(error)) from error
        if not found:
            raise EvaluationFailed(f"{ENTRY_POINT} is undefined")
        return found[0]

    def _program(self, bundle: Bundle) -> Program:
        program = self._programs.pop(bundle.revision, None) or Program(self._compiled(bundle), canonical(dict(bundle.data)))
        self._programs[bundle.revision] = program
        while len(self._programs) > PROGRAMS_KEPT:
            self._programs.popitem(last=False)[1].close()
        return program

    def _compiled(self, bundle: Bundle) -> bytes:
        """
        Raises:
            EvaluationFailed: OPA refuses the modules.
            PolicyUnavailable: it could not be asked.
        """
        entry = ENTRY_POINT.removeprefix("data.").replace(".", "/")
        with tempfile.TemporaryDirectory() as folder:
            for path, content in bundle.files.items():
                place = Path(folder) / "bundle" / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
            command = [self._compiler, "build", "-t", "wasm", "-e", entry, "-o", "made.tar.gz", "bundle"]
            try:
                told = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise PolicyUnavailable(f"{self._compiler} did not compile the policies: {type(error).__name__}") from error
            if told.returncode != 0:
                raise EvaluationFailed(f"the bundle does not compile: {' '.join(told.stderr.split())[:300]}")
            with tarfile.open(Path(folder) / "made.tar.gz") as made:
                member = made.extractfile(CODE)
                assert member is not None
                return member.read()


def open_engine(url: str) -> PolicyEngine:
    """url: path of OPA's program; empty: `opa` on PATH."""
    compiler = shutil.which(url or "opa")
    if compiler is None:
        name = url or "opa"
        raise BadSetting(f"{name} is no program: engine wasm needs Open Policy Agent, on PATH or where AI_INFRA_POLICY_URL says")
    return WasmEngine(os.path.abspath(compiler))
