"""What commands tell people of decisions, requests and runs, of records as the services keep them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.commands import audit, policy
from services.commands.common import moment, short
from services.registry.errors import PromotionRefused
from tests import peers
from tests.registry import RITA, Rig, opened


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with opened(tmp_path) as found:
        yield found


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")


def refused(rig: Rig) -> str:
    """Id of the decision that refuses a request which nobody approved."""
    with pytest.raises(PromotionRefused):
        rig.promotions.carry_out(rig.request(), RITA)
    return rig.sentinelnet.recent(1)[0].id


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")]


def test_a_decision_is_told_with_its_subject_who_wanted_it_when_and_the_runbook_of_what_refused(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = rig.sentinelnet.explain(refused(rig))
    policy._explained(decision)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"{decision['id']}  promote of model digits@1, for rita at {moment(rig.now * 1000)} UTC"
    assert told[-1] == "what to do about promotion.quorum: runbooks/promotion-request.md"


def test_decisions_are_listed_with_their_times_and_short_digests(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = rig.datasets.get("digits@1")["id"]
    found = [decision.to_json() for decision in rig.sentinelnet.recent(1)]
    found.append(found[0] | {"subject": {"kind": "dataset", "id": dataset, "digest": dataset}})
    policy._table(found)
    rows = [cells(line) for line in capsys.readouterr().out.splitlines() if "dec-" in line]
    assert [row[1] for row in rows] == [moment(found[0]["at"])] * 2
    assert [row[3] for row in rows] == [found[0]["subject"]["id"], short(dataset)]


def test_the_log_is_told_with_the_verdict_of_each_check(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    refused(rig)
    rig.promoted()
    rig.relay.flush()
    audit._table([{"index": entry.index, "event": entry.event} for entry in rig.audit.search(limit=1000)])
    rows = [cells(line) for line in capsys.readouterr().out.splitlines() if "policyCheck" in line or "dataset" in line]
    assert [row[2] for row in rows if "promote" in row[2]] == ["policyCheck promote: deny", "policyCheck promote: pass"]
    assert max(len(row[3]) for row in rows) == 12


def test_the_message_about_a_missing_opa_names_the_folder_where_it_is_built() -> None:
    assert Path(policy.OPA).expanduser().name == f"opa-{peers.GO['opa'].version}"
