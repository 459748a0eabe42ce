"""Terraform and its AWS provider as judges of a program: no credentials, no account, no network.

The provider is the one that pulumi-aws carries (PROVIDER). It is taken from a filesystem mirror where there is one; elsewhere
`terraform init` downloads it, once. What is initialised and the provider's schema are kept in the user's cache folder.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from infra import kept
from infra.schema import Schema, store
from services.core.errors import AiInfraError, MissingTool

PROVIDER = "5.100.0"
"""Of pulumi-aws 6.83."""

SOURCE = "hashicorp/aws"
LIMIT_S = 600
DOCUMENT, STATE, VALUES, PLAN, LOCK = "main.tf.json", "terraform.tfstate", "terraform.tfvars.json", "plan", ".terraform.lock.hcl"
IN_PLACE_OF_SECRETS = {"string": "not-the-secret", "number": 1, "bool": False}

Json = dict[str, Any]


class TerraformRefused(AiInfraError):
    """The provider or Terraform finds fault with the program; the message names each resource with what is wrong."""


def find_program() -> str:
    """Raises MissingTool."""
    found = shutil.which("terraform")
    if found is None:
        raise MissingTool("terraform is not on PATH: install Terraform 1.11 or newer")
    return found


def find_mirror() -> Path | None:
    """The filesystem mirror that holds the provider; nothing where `terraform init` must download it."""
    host = f"{sys.platform}_{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }"
    for root in _mirrors(os.environ):
        for pattern in (f"*/{SOURCE}/{PROVIDER}/{host}/terraform-provider-aws_v*", f"*/{SOURCE}/*_{PROVIDER}_{host}.zip"):
            if next(root.glob(pattern), None) is not None:
                return root
    return None


def _mirrors(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where mirrors are: as the environment says, as Terraform itself looks for them, and beside other software in /opt."""
    yield from (Path(environ[name]) for name in ("AI_INFRA_TF_PLUGINS", "TF_PLUGIN_CACHE_DIR") if environ.get(name))
    yield Path.home() / ".terraform.d" / "plugins"
    shared = environ.get("XDG_DATA_DIRS", "/usr/local/share:/usr/share").split(":")
    yield from (Path(folder) / "terraform" / "plugins" for folder in [str(Path.home() / ".local" / "share"), *shared])
    yield from sorted(Path("/opt").glob("*"))


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ai-infra" / "terraform"


@dataclass(frozen=True)
class Terraform:
    """mirror: of the provider; cache: a folder that outlives the process, and may be deleted."""

    program: str = field(default_factory=find_program)
    mirror: Path | None = field(default_factory=find_mirror)
    cache: Path = field(default_factory=_cache)

    def schema(self) -> Schema:
        """The provider's own. The first call for a version takes seconds."""
        folder = self.cache / f"schema-{PROVIDER}"
        if not folder.exists():
            with self._work({"terraform": REQUIRED}) as work:
                told = json.loads(self._run(work, "providers", "schema", "-json"))
            with _made(folder) as making:
                store(next(iter(told["provider_schemas"].values())), making)
        return Schema(folder)

    def validate(self, document: Json) -> None:
        """Raises TerraformRefused."""
        with self._work(document) as work:
            self._run(work, "validate", "-no-color")

    def plan(self, document: Json, state: Json | None = None) -> Json:
        """`terraform show -json` of the plan. Secrets have stand-ins, the same in each plan.

        It asks nothing but the provider, so equal documents on equal states have one plan: it is kept, and not made again.

        Args:
            document: Terraform JSON, as of `synth`.
            state: a Terraform state (version 4) that is taken as it is, without a look at AWS; without one everything is new.
        Raises:
            TerraformRefused: it would not plan this, or may not: see prevent_destroy.
        """
        file = self.cache / f"plan-{self._key(document, state)}.json"
        planned: Json | None = kept.load(file)
        if planned is None:
            with self._work(document, state) as work:
                self._run(work, "plan", "-no-color", "-refresh=false", "-input=false", "-lock=false", f"-out={PLAN}")
                planned = json.loads(self._run(work, "show", "-json", PLAN))
            kept.keep(file, planned)
        return planned

    def apply(self, document: Json, endpoint: str) -> Json:
        """Makes everything at an AWS API that is not AWS, and returns the state. endpoint: URL of an emulator.

        Raises:
            TerraformRefused: as `plan`, or the emulator refused something.
        """
        with self._work(document) as work:
            self._run(work, "apply", "-no-color", "-auto-approve", "-input=false", "-lock=false", AWS_ENDPOINT_URL=endpoint)
            state: Json = json.loads((work / STATE).read_text(encoding="utf-8"))
        return state

    def _key(self, document: Json, state: Json | None) -> str:
        """Of all that a plan is made from. A program that was exchanged is another one."""
        program = Path(self.program).stat()
        made_from = [document, state, PROVIDER, str(self.mirror), self.program, program.st_size, program.st_mtime_ns]
        return sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()

    @contextmanager
    def _work(self, document: Json, state: Json | None = None) -> Iterator[Path]:
        """A folder with the program in it, initialised."""
        lock = self._initialised() / LOCK
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            shutil.copy(lock, work / LOCK)
            # By lines, for an error quotes the line that it is about.
            (work / DOCUMENT).write_text(json.dumps(document, indent=1), encoding="utf-8")
            (work / VALUES).write_text(json.dumps(_stand_ins(document)), encoding="utf-8")
            if state is not None:
                (work / STATE).write_text(json.dumps(state), encoding="utf-8")
            yield work

    def _initialised(self) -> Path:
        """A folder after `terraform init`, which later runs share: init reads and hashes all of the provider."""
        key = sha256(f"{self.program} {self.mirror} {PROVIDER}".encode()).hexdigest()[:12]
        folder = self.cache / f"work-{key}"
        if folder.exists() and next(folder.glob(".terraform/providers/*/*/*/*/*/"), None) is None:
            shutil.rmtree(folder)  # it linked to a mirror that has moved
        if not folder.exists():
            with _made(folder) as making:
                (making / DOCUMENT).write_text(json.dumps({"terraform": REQUIRED}), encoding="utf-8")
                given = [f"-plugin-dir={self.mirror}"] if self.mirror else []
                self._call(making, ["init", "-no-color", "-input=false", *given], _with_network(os.environ))
        return folder

    def _run(self, work: Path, *arguments: str, **more: str) -> str:
        environment = _offline(work) | {"TF_DATA_DIR": str(self._initialised() / ".terraform")} | more
        return self._call(work, arguments, environment)

    def _call(self, work: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> str:
        command = [self.program, *arguments]
        try:
            done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise TerraformRefused(f"terraform {arguments[0]} took over {LIMIT_S} s: try again on a quieter machine") from error
        if done.returncode != 0:
            raise TerraformRefused(f"terraform {arguments[0]}: {_remedy(arguments[0], done.stderr.strip())}")
        return done.stdout


REQUIRED = {"required_providers": {"aws": {"source": SOURCE, "version": PROVIDER}}}


@contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """A folder that is there whole or not at all. Of two processes that make it the first one wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        making = Path(name) / "made"
        making.mkdir()
        yield making
        try:
            making.rename(folder)
        except OSError:
            if not folder.exists():
                raise


def _stand_ins(document: Json) -> Json:
    return {name: IN_PLACE_OF_SECRETS[variable["type"]] for name, variable in document.get("variable", {}).items()}


def _offline(work: Path) -> dict[str, str]:
    """Nothing of the user's: no AWS profile, no settings of Terraform. Whatever would leave this machine fails at once."""
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(work),
        "HTTPS_PROXY": nowhere,
        "HTTP_PROXY": nowhere,
        "NO_PROXY": "127.0.0.1,localhost",
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        # Most of a run is reading the provider's schema: a third of its work was collecting garbage.
        "GOGC": "400",
    }


def _with_network(environ: Mapping[str, str]) -> dict[str, str]:
    """For init alone. A settings file of Terraform that is named but absent would stop it."""
    named = environ.get("TF_CLI_CONFIG_FILE")
    dropped = {"TF_CLI_CONFIG_FILE"} if named and not Path(named).exists() else set()
    return {name: value for name, value in environ.items() if name not in dropped} | {"CHECKPOINT_DISABLE": "1"}


def _remedy(command: str, said: str) -> str:
    if command != "init":
        return said
    return f"{said}\nSet AI_INFRA_TF_PLUGINS to a filesystem mirror that holds {SOURCE} {PROVIDER}, or allow the network once"
