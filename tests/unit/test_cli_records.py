"""What commands tell people of decisions, requests and runs, of records as the services keep them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.commands import audit, policy, promotion, training
from services.commands.common import moment, short
from services.core import dsse, http
from services.registry.errors import PromotionRefused
from tests import peers
from tests.registry import RITA, Rig, opened
from tests.training import TARA, Stage, repository


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with opened(tmp_path) as found:
        yield found


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")


@dataclass(frozen=True)
class Asking:
    """The client's calls about decisions, without HTTP between."""

    rig: Rig

    def decisions(self, limit: int, subject: str) -> list[dict[str, Any]]:
        return [decision.to_json() for decision in self.rig.sentinelnet.recent(limit, subject)]

    def explain(self, decision: str) -> dict[str, Any]:
        return self.rig.sentinelnet.explain(decision)


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


def test_a_request_is_told_with_what_it_asks_for_its_refusal_and_the_bytes_that_approvers_sign(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = rig.sentinelnet.get(refused(rig)).to_json()
    asked = rig.promotions.all()[-1]["id"]
    with pytest.raises(PromotionRefused):
        rig.promotions.carry_out(rig.request(nonce="1" * 32), RITA)
    envelope = dsse.parse(rig.promotions.envelope(asked))
    shown = http.told(rig.promotions.get(asked)) | rig.promotions.approvals(asked) | {"requestEnvelope": envelope.to_json()}
    promotion._whole(shown | {"refusal": promotion._refusal(Asking(rig), shown)})  # type: ignore[arg-type]
    told = capsys.readouterr().out.splitlines()
    expires = moment((rig.now + 3600) * 1000)
    assert told[0].endswith("digits@1 to staging: requested")
    assert f"  requested by rita at {moment(rig.now * 1000)} UTC, from dev; expires at {expires} UTC" in told
    assert any(line.startswith("  risk high, artifact ") and not line.endswith("-") for line in told)
    assert f"  refused at {moment(decision['at'])} UTC by promotion.quorum: `ai-infra policy explain {decision['id']}`" in told
    assert told[-1].encode() == envelope.payload


def test_a_run_is_told_with_who_when_how_long_and_its_seven_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = Stage(tmp_path)
    shop.add_dataset()
    source = repository(tmp_path / "source")
    (source / "edited.py").write_text("x = 1\n")
    run = shop.service.start(shop.order(source), TARA)["id"]
    record = shop.service.get(run)
    training._whole(record | {"finishedAt": record["startedAt"] + 52_000})
    told, inputs = capsys.readouterr().out, record["inputs"]
    assert f"started by tara at {moment(record['startedAt'])} UTC, attempt 1, took 52 s" in told
    assert f"at {inputs['codeRef']['commit'][:12]}, tree {short(inputs['codeRef']['tree'])}; dirty: changed since" in told
    for digest in (inputs["image"], inputs["dependencyLock"], *inputs["datasets"]):
        assert short(digest) in told
    assert f"seed {inputs['seed']}" in told
    for name in ("hyperparameters", "environment"):
        line = next(line for line in told.splitlines() if line.startswith(f"  {name} "))
        assert all(f"{key} {value}" in line for key, value in inputs[name].items())


def test_the_message_about_a_missing_opa_names_the_folder_where_it_is_built() -> None:
    assert Path(policy.OPA).expanduser().name == f"opa-{peers.GO['opa'].version}"
