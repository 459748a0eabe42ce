"""What can be known of the image without building it: a container engine is in no test environment.

The wheel is built from exactly what Containerfile copies, installed beside the libraries of this environment, and started by the
commands that objects in a cluster use. Whether the base images run it, only a build says; Containerfile's last steps try it there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from services.serving import inference, storage_container
from tests.peers import ROOT

LOCK = ROOT / "requirements" / "image.lock"


@dataclass(frozen=True)
class Stage:
    """base: an image, or the name of another stage; steps: (instruction, its words)."""

    base: str
    name: str
    steps: list[tuple[str, str]]


def stages() -> list[Stage]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[Stage] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, words = line.split(maxsplit=1)
        if instruction == "FROM":
            base, _, name = words.split()
            found.append(Stage(base, name, []))
        else:
            found[-1].steps.append((instruction, words))
    return found


def copied() -> set[str]:
    """Paths of this repository that go into the image."""
    copies = [words.split() for stage in stages() for step, words in stage.steps if step == "COPY"]
    return {path for words in copies if not words[0].startswith("--from=") for path in words[:-1]}


def test_every_path_that_is_copied_exists_and_reaches_the_builder() -> None:
    kept = {line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")}
    assert copied() == kept
    assert [path for path in copied() if not (ROOT / path).exists()] == []


def test_every_base_is_pinned_by_digest() -> None:
    names = {stage.name for stage in stages()}
    outside = [stage.base for stage in stages() if stage.base not in names]
    assert outside
    assert [base for base in outside if not re.fullmatch(r"[a-z0-9./-]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}", base)] == []


@pytest.mark.parametrize("name", ["services", "training"])
def test_what_runs_is_not_root_and_is_the_user_that_pods_name(name: str) -> None:
    (stage,) = (found for found in stages() if found.name == name)
    assert [words for step, words in stage.steps if step == "USER"] == [f"{inference.USER}:{inference.USER}"]


def test_the_image_of_services_needs_no_shell() -> None:
    last = stages()[-1]
    assert (last.name, "distroless" in last.base) == ("services", True)
    started = [json.loads(words) for step, words in last.steps if step in ("RUN", "ENTRYPOINT", "CMD")]
    assert started[-2:] == [["python3", "-m"], ["services.cli", "--help"]]


def pinned(lock: Path) -> dict[str, list[str]]:
    """Each requirement of a lock, `name==version`, with its hashes."""
    found: dict[str, list[str]] = {}
    for line in lock.read_text().splitlines():
        if match := re.match(r"([a-z0-9._-]+==\S+)", line):
            found[match[1]] = last = []
        elif match := re.match(r"\s+--hash=sha256:([0-9a-f]{64})", line):
            last.append(match[1])
    return found


DASHBOARD = (
    "aiohttp-cors", "colorful", "distlib", "google-api-core", "google-auth", "opencensus", "opencensus-context",
    "opentelemetry-exporter-prometheus", "proto-plus", "py-spy", "pyasn1-modules", "python-discovery", "smart-open",
    "virtualenv",
)  # fmt: skip
"""What Ray's dashboard needs beside all that is in dev.lock. Containerfile imports them where the image is built."""


def test_the_image_has_only_what_is_hashed_and_was_tested_with_and_rays_dashboard() -> None:
    image = pinned(LOCK)
    assert [name for name, hashes in image.items() if not hashes] == []
    more = image.keys() - pinned(ROOT / "requirements" / "dev.lock").keys()
    assert sorted(name.partition("==")[0] for name in more) == sorted(DASHBOARD)


def test_ray_in_the_image_has_its_dashboard_without_which_no_job_is_submitted() -> None:
    asked = [Requirement(text) for text in metadata.requires("ray") or []]
    extra = {canonicalize_name(one.name) for one in asked if one.marker and not one.marker.evaluate({"extra": ""})}
    default = {canonicalize_name(one.name) for one in asked if one.marker and one.marker.evaluate({"extra": "default"})} & extra
    assert "aiohttp-cors" in default
    assert default - {name.partition("==")[0] for name in pinned(LOCK)} == set()
    (training,) = (stage for stage in stages() if stage.name == "training")
    started = [json.loads(words) for step, words in training.steps if step == "RUN" and words.startswith("[")]
    assert ["python3", "-c", "import ray.dashboard.optional_deps"] in started


def test_the_bill_of_materials_is_valid_and_names_every_locked_package(tmp_path: Path) -> None:
    written = tmp_path / "sbom.cdx.json"
    # As the task does it; whether the environment is up to date is not asked.
    make = ["make", "--no-print-directory", "-o", ".venv/.dev", "sbom", f"SBOM={written}"]
    done = subprocess.run(make, cwd=ROOT, check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{written}: what requirements/image.lock pins\n", "")
    text = written.read_text()
    bill: dict[str, Any] = json.loads(text)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = {f"{item['name']}=={item['version']}": hashes(item) for item in bill["components"]}
    assert found == {name: sorted(listed) for name, listed in pinned(LOCK).items()}
    assert bill["metadata"]["component"]["name"] == "ai-infra"


def hashes(component: dict[str, Any]) -> list[str]:
    listed = [found for reference in component["externalReferences"] for found in reference["hashes"]]
    return sorted(found["content"] for found in listed if found["alg"] == "SHA-256")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with our wheel, and with the libraries of this environment but not this repository."""
    folder = tmp_path_factory.mktemp("wheel")
    for path in copied():
        whole = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
        (folder / "context" / path).parent.mkdir(parents=True, exist_ok=True)
        whole(ROOT / path, folder / "context" / path)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(folder / "context")]
    subprocess.run(build, check=True, capture_output=True)
    venv.create(folder / "venv")
    found = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    install = ["-m", "uv", "pip", "install", "-q", "--no-deps", "--no-index", "--python", str(found), str(wheel)]
    subprocess.run([sys.executable, *install], check=True)
    (packages,) = (folder / "venv" / "lib").glob("*/site-packages")
    # A folder that a .pth names is searched, but its own .pth files are not read: so not the one of this repository.
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib"))
    return found


def run(python: Path, command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AI_INFRA", "PYTHON"))}
    return subprocess.run([python, *command], cwd=folder, env=environ, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (inference.COMMAND, 1, "/mnt/models/verified was not initialised"),
        ((*storage_container.COMMAND, "ai-infra://dep-1/x", "/mnt/models"), 2, "want ai-infra://DEPLOYMENT/ARTIFACT/MANIFEST/BUNDLE"),
        (("python3", "-m", "services.api"), 2, "is no home"),
        (("python3", "-m", "services.signing"), 2, "private key"),
        (("python3", "-c", "import services.training.driver, services.training.trainer"), 0, ""),
        (("python3", "-m", "services.cli", "--help"), 0, "Usage"),
    ],
    ids=lambda value: " ".join(value[2:3]) if isinstance(value, tuple) else "",
)
def test_each_service_starts_from_the_wheel(python: Path, tmp_path: Path, command: Sequence[str], status: int, says: str) -> None:
    assert command[0] == "python3"
    found = run(python, command[1:], tmp_path)
    assert (found.returncode, says in found.stdout + found.stderr) == (status, True), found.stderr


def test_what_is_started_is_the_wheel_and_not_this_repository(python: Path, tmp_path: Path) -> None:
    found = run(python, ["-c", "import services.cli; print(services.cli.__file__)"], tmp_path)
    assert found.stdout.startswith(str(python.parent.parent))
    assert run(python, ["-c", "import stacks"], tmp_path).returncode == 1
