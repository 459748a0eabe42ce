"""`ai-infra trust build`: the trust.json of a platform whose keys are in key systems, from one that has people and rules in it."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.common import Json, read_file, read_trust, say, show, table

if TYPE_CHECKING:
    from services.core.keys import PublicKey
    from services.core.trust import Trust

app = typer.Typer(help="Whom a verifier believes.", no_args_is_help=True)
AUDIT = "audit"


def add_to(root: typer.Typer) -> None:
    root.add_typer(app, name="trust")


@app.command(
    epilog="Example: ai-infra trust build --from seed/trust.json --key builder=builder.pem --key evaluator=evaluator.pem "
    "--key sentinelnet=sentinelnet.pem --key manifest=manifest.pem --key audit=audit.pem -o trust.json"
)
def build(
    source: Annotated[Path, typer.Option("--from", help="A trust.json; people and quorums of it stay.")],
    key: Annotated[
        list[str],
        typer.Option(metavar="NAME=FILE", help="Public key in PEM; one of each: builder, evaluator, sentinelnet, manifest, audit."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Written once; one that is there and differs is left alone.")],
    as_json: Json = False,
) -> None:
    """Put the public keys of services and log into a trust.json, and check the whole. No private key is read."""
    made = with_keys(read_trust(source), _keys(key))
    written = _write(output, json.dumps(made.to_json(), indent=2) + "\n")
    value = {
        "file": str(output),
        "written": written,
        "signers": {signer.role: signer.signer for signer in made.signers},
        "log": made.log_vkey,
        "people": {person.person: sorted(person.public_keys) for person in made.people},
        "witnesses": {"threshold": made.witness_threshold, "keys": list(made.log_witnesses)},
    }
    show(value, as_json, _draw)


def with_keys(trust: "Trust", found: "dict[str, PublicKey]") -> "Trust":
    """Of `found`, audit is the log's key under the log's name, the others sign as services. What the trust says of people, quorums,
    witnesses and revocations stays.

    Raises:
        BadInput: a name is missing, or a key is revoked, or of a kind that its place does not take.
        BadTrust: a key is there twice, or belongs to somebody else already.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    from services.core import keys, tlog
    from services.core.errors import BadInput
    from services.core.trust import SERVICE_ROLES, Signer

    names = sorted(SERVICE_ROLES | {AUDIT})
    if found.keys() != set(names):
        wrong = ", ".join(sorted(set(names) ^ found.keys()))
        raise BadInput(f"--key: want one NAME=FILE of each of {', '.join(names)}; missing or unknown: {wrong}")
    other = [name for name in names if name != AUDIT and not isinstance(found[name], ec.EllipticCurvePublicKey)]
    if other:
        raise BadInput(f"--key {other[0]}: want ECDSA on P-256, which every key system has; Ed25519 is for audit only")
    vkey = tlog.vkey_text(trust.log_origin, found[AUDIT])
    signers = tuple(Signer(name, keys.public_pem(found[name])) for name in names if name != AUDIT)
    twice = [signer.role for signer in signers if signer.signer == keys.signer_id(found[AUDIT])]
    if twice:
        raise BadInput(f"--key {twice[0]} and --key {AUDIT} are one key: who signs must not be who keeps the log")
    revoked = [signer.role for signer in signers if not trust.valid(signer.signer)]
    if revoked:
        raise BadInput(f"--key {revoked[0]}: this key is revoked: give the one that the service signs with now")
    return dataclasses.replace(trust, log_vkey=vkey, signers=signers)


def _keys(named: Sequence[str]) -> "dict[str, PublicKey]":
    from services.core.errors import BadInput
    from services.core.keys import BadKey, load_public_pem

    found: dict[str, PublicKey] = {}
    for text in named:
        name, _, file = text.partition("=")
        if not file or name in found:
            raise BadInput(f"--key {text[:100]}: want NAME=FILE, each name once")
        data = read_file(Path(file))
        if b"PRIVATE KEY" in data:
            raise BadInput(f"--key {name}: {file} is a private key; give its public half: openssl pkey -in {file} -pubout")
        try:
            found[name] = load_public_pem(data)
        except BadKey as error:
            raise BadInput(f"--key {name}: {file}: {error}") from error
    return found


def _write(path: Path, text: str) -> bool:
    """False if it is there already, the same. Raises Conflict if it differs: it may hold revocations that nobody may lose."""
    from services.core.errors import Conflict

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        if path.read_text(encoding="utf-8") != text:
            raise Conflict(f"{path} is there and says something else: compare them, and move it away or name another -o") from None
        return False
    return True


def _draw(value: Any) -> None:
    table("keys", ("of", "id"), [*value["signers"].items(), ("log", value["log"])])
    table("people", ("person", "keys"), [(person, "\n".join(ids) or "none") for person, ids in value["people"].items()])
    if not value["witnesses"]["threshold"]:
        say("no witness is asked for: nobody would notice a log that is told differently to different people")
    done = "written" if value["written"] else "as it was"
    say(f"{done}: {value['file']}; give it to the platform and, by another way, to all who verify")
