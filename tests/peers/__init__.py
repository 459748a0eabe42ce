"""Real servers and tools that the tests run against: found on PATH, or built once into a cache outside the repository.

`make peers` builds those that are missing. A test that needs an absent one is skipped by its name; with REQUIRE_PEERS=1 it fails.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.terraform import PROVIDER, Terraform, TerraformRefused
from services.core.errors import MissingTool

ROOT = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("AI_INFRA_PEERS", Path.home() / ".cache" / "ai-infra" / "peers"))


@dataclass(frozen=True)
class Peer:
    """Of a Go module, at a pinned version that Go's checksum database vouches for.

    package: of a program; module: a folder here whose go.mod has the replacements without which the program does not compile;
    files: of a module that is no program: what is wanted of it.
    """

    package: str
    version: str
    module: str | None = None
    files: tuple[str, ...] = ()


GO = {
    "etcd": Peer("go.etcd.io/etcd/server/v3", "v3.5.16", module="kube"),
    "kube-apiserver": Peer("k8s.io/kubernetes/cmd/kube-apiserver", "v1.32.0", module="kube"),
    "kube-controller-manager": Peer("k8s.io/kubernetes/cmd/kube-controller-manager", "v1.32.0", module="kube"),
    "kubectl": Peer("k8s.io/kubernetes/cmd/kubectl", "v1.32.0", module="kube"),
    "kube-scheduler": Peer("k8s.io/kubernetes/cmd/kube-scheduler", "v1.32.0", module="kube"),
    "kwok": Peer("sigs.k8s.io/kwok/cmd/kwok", "v0.8.0"),
    "promtool": Peer("github.com/prometheus/prometheus/cmd/promtool", "v0.305.0", module="prometheus"),
    "opa": Peer("github.com/open-policy-agent/opa", "v1.22.2"),
    "fsck": Peer("github.com/transparency-dev/tessera/cmd/fsck", "v1.0.4"),
    "vault": Peer("github.com/hashicorp/vault", "v1.21.0", module="vault"),
    # Definitions that its chart brings into a cluster: those of the Gateway API, and its own.
    "envoy-gateway": Peer(
        "github.com/envoyproxy/gateway",
        "v1.6.0",
        files=(
            "charts/gateway-helm/crds/gatewayapi-crds.yaml",
            "charts/gateway-helm/crds/generated/gateway.envoyproxy.io_envoyproxies.yaml",
        ),
    ),
    "versitygw": Peer("github.com/versity/versitygw/cmd/versitygw", "v1.8.0"),
}
ASIDE = {"terraform": f"put it on PATH, and the AWS provider {PROVIDER} in a filesystem mirror, or allow the network once"}
"""What `make peers` cannot build."""
NAMESAKES = {"envoy-gateway", "fsck"}
"""On PATH another program has this name: the one is the controller itself, the other checks file systems."""


def folder(name: str) -> Path:
    """Where a Go program, or a folder of files, lies in the cache once it is there."""
    return CACHE / f"{name}-{GO[name].version}"


def find(name: str) -> str | None:
    """The program's path, or nothing."""
    if name == "terraform":
        return _terraform()
    cached = folder(name) / name if name in GO else None
    if cached is not None and cached.exists():
        return str(cached)
    for beside in (Path(sys.executable).parent / name, ROOT / f".venv-{name}" / "bin" / name):
        if beside.exists():
            return str(beside)
    return None if name in NAMESAKES else shutil.which(name)


def _terraform() -> str | None:
    """It is of no use without the AWS provider."""
    try:
        terraform = Terraform()
        terraform.schema()
    except (MissingTool, TerraformRefused):
        return None
    return terraform.program


def need(name: str) -> str:
    """The program's path; without it the test is skipped by that name, or fails when REQUIRE_PEERS=1."""
    found = find(name)
    if found is None:
        message = f"{name} is not here: {ASIDE.get(name, '`make peers` builds it, or put it on PATH')}"
        if os.environ.get("REQUIRE_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return found


def build(name: str) -> Path:
    """Builds one Go program, or gets its files, into the cache. What breaks off leaves the cache as it was."""
    peer = GO[name]
    built = folder(name)
    if (built / name).exists():
        return built / name
    go = shutil.which("go")
    if go is None:
        raise SystemExit(f"{name}: Go is not on PATH; install Go 1.25 or newer, or put {name} on PATH")
    building = built.with_name(built.name + ".building")
    environment = os.environ | {"CGO_ENABLED": "0", "GOBIN": str(building), "GOFLAGS": "-trimpath"}
    if peer.files:
        _copy(go, peer, building / name)
    elif peer.module is None:
        subprocess.run([go, "install", f"{peer.package}@{peer.version}"], check=True, env=environment)
    else:
        # In a copy: Go completes go.mod while it builds. What it may download is bounded by the committed go.sum and its database.
        with tempfile.TemporaryDirectory() as copy:
            module = shutil.copytree(Path(__file__).parent / peer.module, Path(copy) / peer.module)
            command = [go, "build", "-mod=mod", "-ldflags", "-s -w", "-o", str(building / name), peer.package]
            subprocess.run(command, check=True, env=environment, cwd=module)
    built.parent.mkdir(parents=True, exist_ok=True)
    building.rename(built)
    return built / name


def _copy(go: str, peer: Peer, target: Path) -> None:
    """Gets a module, which is not compiled, and takes the files out of it."""
    answer = subprocess.run([go, "mod", "download", "-json", f"{peer.package}@{peer.version}"], stdout=subprocess.PIPE, check=False)
    found = json.loads(answer.stdout)
    if "Error" in found:
        raise SystemExit(f"{peer.package}@{peer.version}: {found['Error']}")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in map(Path, peer.files):
        shutil.copyfile(Path(found["Dir"]) / path, target / path.name)
