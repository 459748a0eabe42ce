"""Promotion, and what a signature of the platform costs over the bare key.

A promotion is timed from the call that executes it until its event is in the log: decision, evidence, VSA, manifest, signatures,
stage. It runs on real databases, log, policies and signing service in one process; HTTP is not in it. A signature goes the whole
way from the API's client through the signing proxy: mutual TLS, and audit events before and after it that are in the log when it
answers.
"""

import tempfile
from pathlib import Path

from benchmarks.harness import Row, Size, Target, alone, p95, say, seconds
from services.core import dsse, keys, oms
from services.core.digests import FileEntry, sha256
from services.core.tls import person_id
from services.home import Home, create
from services.signing.client import SigningClient, open_client
from services.supervisor import Platform, free_ports
from tests.registry import RITA, Rig, copied, evaluated


def measure(size: Size) -> list[Row]:
    """Both p95."""
    return [*promotions(size), *signatures(size)]


def promotions(size: Size) -> list[Row]:
    say("promotion: versions are made and promoted")
    with tempfile.TemporaryDirectory() as folder:
        made = evaluated(Path(folder) / "template")
        made.close()
        rounds = [executed(copied(made, Path(folder) / f"round-{number}"), size.of(20, 2)) for number in range(size.rounds)]
    limit = Target(2000.0, "lower", "figure")
    found = [p95(values) * 1000 for values in rounds]
    return [alone("promotion, p95", "ms", found, limit, "without HTTP; until its event is in the log")]


def executed(rig: Rig, count: int) -> list[float]:
    """Seconds of each of `count` promotions, of versions of their own."""
    found = []
    dataset = str(rig.datasets.get("digits@1")["id"])
    for number in range(2, count + 2):
        weights = {"model.safetensors": b"weights %d" % number * 100, "config.json": b"{}"}
        rig.register(rig.train(f"run-{number}", [dataset], weights))
        rig.evaluate(number)
        promotion = rig.request(number)
        rig.approve(promotion, "ada", "ben", "cyd")
        found.append(seconds(lambda promotion=promotion: rig.promotions.carry_out(promotion, RITA)))
    rig.close()
    return found


def signatures(size: Size) -> list[Row]:
    say("sign: through the proxy, and with the bare key")
    with tempfile.TemporaryDirectory() as folder:
        home = Home.at(Path(folder) / "home")
        create(home)
        with Platform(home, free_ports()) as platform:
            client = open_client(platform.urls["signing-proxy"], home.service("api"))
            key = keys.read_private_pem(home.root / "signing" / "keys" / "builder.pem")
            signed(client, key, -1, size.of(20, 2))
            rounds = [signed(client, key, number, size.of(100, 5)) for number in range(size.rounds)]
    limit, note = Target(5.0, "lower", "figure"), "p95 through the proxy less p95 of the key alone"
    return [
        alone("sign, p95 over the bare key", "ms", [(p95(ours) - p95(bare)) * 1000 for ours, bare in rounds], limit, note),
        alone("sign with the bare key, p95", "ms", [p95(bare) * 1000 for _, bare in rounds]),
    ]


def signed(client: SigningClient, key: keys.PrivateKey, number: int, count: int) -> tuple[list[float], list[float]]:
    """Seconds of each signature through the proxy, and with the key alone, over the same bytes in turn."""
    ours, bare = [], []
    for index in range(count):
        files = [FileEntry("model.safetensors", 8, sha256(b"%d %d" % (number, index)))]
        payload = oms.statement(files)
        ours.append(seconds(lambda payload=payload: client.sign_model("builder", payload, person_id("tara"))))
        bare.append(seconds(lambda payload=payload: keys.sign(key, dsse.pae(dsse.PAYLOAD_TYPE, payload))))
    return ours, bare
