"""A home on disk: where each process of the embedded profile keeps its keys, certificates and databases.

`ai-infra init` makes one. People's keys lie in a folder beside it, never inside: whoever holds the home cannot approve.
"""

import dataclasses
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.core import dsse, keys, tlog
from services.core.bundle import load_bundle, to_tar
from services.core.clock import system_clock
from services.core.errors import BadSetting, NotFound
from services.core.statements import PolicyBundle
from services.core.tls import TRUST_DOMAIN, DevelopmentCa, Identity, person_id, service_id
from services.core.trust import Person, Signer, Trust

PEOPLE: Mapping[str, tuple[str, ...]] = {
    "tara": ("trainer",),
    "eva": ("evaluator",),
    "stella": ("steward",),
    "petra": ("promoter",),
    "ana": ("approver",),
    "ben": ("approver",),
    "chen": ("approver",),
    "dana": ("approver",),
    "emil": ("approver",),
    "dario": ("deployer",),
    "aude": ("auditor",),
    "sam": ("security",),
    "ada": ("admin",),
}
"""The people of a development home: name → roles. ana has two keys, to show that she counts once."""

SERVICES = ("api", "signing-proxy", "router", "predictor")
SIGNING_KEYS = ("builder", "evaluator", "sentinelnet", "manifest")
POLICIES = Path(__file__).resolve().parent.parent / "policies" / "rego"
OF_A_PLATFORM = ("ca", "services", "signing")
"""Folders of a home in which a platform runs; one that `ai-infra login` made has none of them."""


@dataclass(frozen=True)
class Home:
    """root: the home; people: the folder of people's certificates and keys."""

    root: Path
    people: Path

    @classmethod
    def at(cls, root: Path, people: Path | None = None) -> "Home":
        """people: default is the home's name with `-people` behind it."""
        root = root.absolute()
        return cls(root, (people or root.with_name(root.name + "-people")).absolute())

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Home":
        """AI_INFRA_HOME (default `.ai-infra`) and AI_INFRA_PEOPLE."""
        people = environ.get("AI_INFRA_PEOPLE")
        return cls.at(Path(environ.get("AI_INFRA_HOME", ".ai-infra")), Path(people) if people else None)

    def require(self) -> "Home":
        """The home itself. Raises BadSetting if it was not made."""
        if not (self.root / "config.json").exists():
            raise BadSetting(f"{self.root} is no home: run `ai-infra init`, or set AI_INFRA_HOME")
        return self

    def require_platform(self) -> "Home":
        """The home itself. Raises BadSetting if it was not made, or by `ai-infra login`."""
        if not runs_platform(self.require().root):
            raise BadSetting(f"{self.root} is a login to a platform elsewhere and runs none: name another home with AI_INFRA_HOME")
        return self

    @property
    def config(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.root / "config.json").read_text())
        return value

    @property
    def trust(self) -> Trust:
        return Trust.parse((self.root / "trust.json").read_bytes())

    def witnesses(self, trust: Trust) -> list[tuple[tlog.VerifierKey, str]]:
        """The witnesses of trust with the URLs that config.json has for them. Raises BadSetting: it has none for one."""
        urls: dict[str, str] = self.config.get("witnesses", {})
        unknown = [key.name for key in trust.witnesses if key.text not in urls]
        if unknown:
            raise BadSetting(f"no URL of the witness {unknown[0]}: run `ai-infra init --witness URL=VKEY`, or mend config.json")
        return [(key, urls[key.text]) for key in trust.witnesses]

    def service(self, name: str) -> Identity:
        return Identity.in_folder(self.root / "services" / name)

    def person(self, name: str) -> Identity:
        """Raises NotFound: nobody of that name has a certificate here."""
        folder = self.people / name
        if not (folder / "tls.key").exists():
            known = ", ".join(sorted(path.name for path in self.people.glob("*/"))) or "nobody"
            raise NotFound(f"no certificate of {name!r} in {self.people}: there are {known}; name one with --as or AI_INFRA_AS")
        return Identity.in_folder(folder)

    def signing_key(self, name: str, second: bool = False) -> keys.PrivateKey:
        """A person's own key."""
        return keys.read_private_pem(self.people / name / ("signing-2.pem" if second else "signing.pem"))

    @property
    def endpoints(self) -> dict[str, str]:
        """URLs of the running platform. Raises NotFound."""
        try:
            found: dict[str, str] = json.loads((self.root / "run" / "endpoints.json").read_text())
        except FileNotFoundError:
            if runs_platform(self.root):
                raise NotFound(f"the platform of {self.root} is not running: start it with `ai-infra up`") from None
            raise NotFound(f"{self.root} does not say where its platform is: `ai-infra login` writes it") from None
        return found


def runs_platform(root: Path) -> bool:
    """Whether a folder is the home of a platform, by what is its alone: everybody is handed a trust.json."""
    return (root / "config.json").exists() and any((root / name).is_dir() for name in OF_A_PLATFORM)


def create(home: Home) -> bool:
    """Makes a home; False if it was made already. A run that broke off is repeated from its start by the next one.

    Raises:
        BadSetting: the folder holds something else, such as a login.
    """
    if (home.root / "config.json").exists():
        home.require_platform()
        return False
    if home.root.exists() and not home.root.is_dir():
        raise BadSetting(f"{home.root} is a file: choose a folder with AI_INFRA_HOME")
    if home.root.exists() and any(home.root.iterdir()) and not (home.root / ".making").exists():
        raise BadSetting(f"{home.root} is not empty and no home: choose another folder with AI_INFRA_HOME")
    home.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A home that is being made is marked, so that a crash does not leave a folder that looks foreign.
    (home.root / ".making").touch()
    for folder in ("run", "logs", "signing/keys", "bootstrap"):
        (home.root / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    ca = DevelopmentCa(home.root / "ca")
    for name in SERVICES:
        ca.issue(service_id(name), home.root / "services" / name)
    people = [_person(home, ca, name, roles) for name, roles in PEOPLE.items()]
    _trust(home, people)
    _first_policies(home)
    # The last write: from here it is a home.
    config = {"version": 1, "createdAt": system_clock(), "trustDomain": TRUST_DOMAIN}
    _write(home.root / "config.json", json.dumps(config, indent=2) + "\n")
    (home.root / ".making").unlink()
    return True


def add_witnesses(home: Home, named: Mapping[str, str], threshold: int) -> None:
    """Makes these the log's witnesses. named: verifier key → URL; threshold: how many must cosign. A running platform must be
    started again; whoever verifies needs the new trust.json.

    Raises:
        BadSetting, BadTrust: a URL or a key is none, or there are fewer witnesses than the threshold; nothing was changed.
    """
    for key, url in named.items():
        if not url.startswith(("http://", "https://")):
            raise BadSetting(f"witness {key[:60]!r}: want --witness URL=VKEY with an http(s) URL, got {url[:80]!r}")
    trust = dataclasses.replace(home.trust, log_witnesses=tuple(named), witness_threshold=threshold)
    # 1. The URLs. A crash here leaves URLs of witnesses that nobody trusts: they are not asked. 2. The trust.
    _write(home.root / "config.json", json.dumps(home.config | {"witnesses": dict(named)}, indent=2) + "\n")
    _write(home.root / "trust.json", json.dumps(trust.to_json(), indent=2) + "\n")


def _person(home: Home, ca: DevelopmentCa, name: str, roles: tuple[str, ...]) -> Person:
    folder = home.people / name
    ca.issue(person_id(name), folder)
    pems = [_key(folder / "signing.pem", keys.generate_p256())]
    if name == "ana":
        pems.append(_key(folder / "signing-2.pem", keys.generate_p256()))
    return Person(person_id(name), frozenset(roles), tuple(pems))


def _key(path: Path, key: keys.PrivateKey) -> str:
    """The public key's PEM; a key that is there already is kept."""
    if path.exists():
        key = keys.read_private_pem(path)
    else:
        keys.write_private_pem(path, key)
    return keys.public_pem(key.public_key())


def _trust(home: Home, people: list[Person]) -> None:
    folder = home.root / "signing" / "keys"
    signers = tuple(Signer(name, _key(folder / f"{name}.pem", keys.generate_p256())) for name in SIGNING_KEYS)
    audit = keys.load_public_pem(_key(folder / "audit.pem", keys.generate_ed25519()))
    marker = home.root / "bootstrap" / "origin"
    if not marker.exists():
        _write(marker, f"{TRUST_DOMAIN}/log/{secrets.token_hex(4)}")
    origin = marker.read_text()
    vkey = tlog.vkey_text(origin, audit)
    security = {s for person in people if "security" in person.roles for s in person.public_keys}
    trust = Trust(log_origin=origin, log_vkey=vkey, signers=signers, people=tuple(people), policy_signers=frozenset(security))
    _write(home.root / "trust.json", json.dumps(trust.to_json(), indent=2) + "\n")
    _write(home.root / "log.vkey", vkey + "\n")


def _first_policies(home: Home) -> None:
    """The policies that come with the program, signed by the security person; the API publishes them at its first start."""
    bundle = load_bundle(POLICIES)
    statement = PolicyBundle(revision=bundle.revision, version=1, issued_at=system_clock() // 1000).to_statement()
    signature = dsse.sign(statement, home.signing_key("sam"))
    envelope = dsse.Envelope(dsse.PAYLOAD_TYPE, statement, (signature,))
    (home.root / "bootstrap" / "policies.tar").write_bytes(to_tar(bundle))
    (home.root / "bootstrap" / "policies.dsse.json").write_bytes(envelope.to_bytes())


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
