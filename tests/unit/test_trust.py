"""The trust file: taken whole or refused, and what it answers."""

import json
from typing import Any

import pytest

from services.core import keys, tlog
from services.core.errors import BadInput, Refused
from services.core.tls import person_id
from services.core.trust import BadTrust, Person, Trust
from tests import signing as world
from tests.names import told


def value() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(world.trust().to_bytes())
    return parsed


def parse(changed: dict[str, Any]) -> Trust:
    return Trust.parse(json.dumps(changed).encode())


def test_a_trust_file_round_trips() -> None:
    trust = world.trust(revoked={world.signer_of("ada"): 7})
    assert Trust.parse(trust.to_bytes()) == trust
    assert Trust.parse(trust.to_bytes()).to_bytes() == trust.to_bytes()


def test_it_knows_people_by_key_and_services_by_role() -> None:
    trust = world.trust()
    found = trust.person_of(world.signer_of("ada", 1))
    assert found is not None
    assert (found.person, found.roles) == (person_id("ada"), frozenset({"approver"}))
    builder = keys.signer_id(world.SERVICE_KEYS["builder"].public_key())
    assert set(trust.signer_with_role("builder")) == {builder}
    assert trust.person_of(builder) is None
    assert trust.signer_with_role("nobody") == {}
    assert set(trust.policy_keys()) == {world.signer_of("eve")}


def test_a_quorum_that_is_not_stated_is_refused() -> None:
    trust = world.trust()
    assert trust.required_approvals("high", "staging") == 3
    assert trust.required_approvals("low", "staging") == 0
    for risk, stage in (("high", "dev"), ("medium", "prod")):
        with pytest.raises(Refused, match="no quorum"):
            trust.required_approvals(risk, stage)


def test_a_revoked_key_counts_before_its_revocation_only() -> None:
    builder = keys.signer_id(world.SERVICE_KEYS["builder"].public_key())
    trust = world.trust(revoked={world.signer_of("ada"): 7, builder: 9})
    assert [trust.valid(world.signer_of("ada"), at) for at in (6, 7, 8, None)] == [True, False, False, False]
    assert (set(trust.signer_with_role("builder", 8)), set(trust.signer_with_role("builder"))) == ({builder}, set())
    assert world.signer_of("ada") not in trust.people_keys()
    assert world.signer_of("ada", 1) in trust.people_keys()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"extra": 1},
        {"environments": []},
        {"environments": ["dev", "dev"]},
        {"log": {"origin": "x"}},
        {"log": value()["log"] | {"origin": "other"}},
        {"log": value()["log"] | {"vkey": world.ORIGIN}},
        {"log": value()["log"] | {"witnesses": [7]}},
        {"log": value()["log"] | {"witnessThreshold": 1}},
        {"signers": {}},
        {"signers": [{"role": "king", "publicKey": world.pem(world.SERVICE_KEYS["builder"])}]},
        {"signers": [{"role": "builder", "publicKey": "junk"}]},
        {"people": [{"person": "ada", "roles": [], "keys": []}]},
        {"people": [{"person": person_id("ada"), "roles": ["king"], "keys": []}]},
        {"people": [{"person": person_id("ada"), "roles": [], "keys": ["junk"]}]},
        {"people": [{"person": person_id("ada"), "roles": [], "keys": []}] * 2},
        {"people": [{"person": person_id("ada"), "roles": [], "keys": [world.pem(world.SERVICE_KEYS["builder"])]}]},
        {"approvals": {"medium": {"prod": 1}}},
        {"approvals": {"high": {"moon": 1}}},
        {"approvals": {"high": {"prod": -1}}},
        {"approvals": {"high": {"prod": 1.0}}},
        {"approvals": {"high": {"prod": True}}},
        {"approvals": {"high": 3}},
        {"policySigners": [world.signer_of("ada")]},
        {"policySigners": ["0" * 64]},
        {"revoked": [{"signer": "x", "logIndex": 1}]},
        {"revoked": [{"signer": "0" * 64, "logIndex": -1}]},
        {"revoked": [{"signer": "0" * 64, "logIndex": "1"}]},
        {"revoked": [{"signer": "0" * 64, "logIndex": 1}] * 2},
    ],
    ids=told,
)
def test_a_wrong_trust_file_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        parse(value() | change)


@pytest.mark.parametrize("missing", sorted(value()))
def test_a_trust_file_with_a_missing_field_is_refused_by_its_name(missing: str) -> None:
    with pytest.raises(BadTrust, match=missing):
        parse({name: item for name, item in value().items() if name != missing})


def test_one_key_for_two_people_is_refused() -> None:
    shared = world.pem(world.PEOPLE_KEYS["ada"][0])
    people = tuple(Person(person_id(name), frozenset({"approver"}), (shared,)) for name in ("ada", "ben"))
    with pytest.raises(BadTrust, match="one person"):
        world.trust(people=people, policy_signers=frozenset())


def test_the_logs_own_key_is_no_witness() -> None:
    key = keys.generate_ed25519().public_key()
    vkey, witness = tlog.vkey_text(world.ORIGIN, key), tlog.witness_vkey_text("witness.example", key)
    with pytest.raises(BadTrust, match="own key"):
        world.trust(vkey, log_witnesses=(witness,), witness_threshold=1)
