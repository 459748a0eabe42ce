"""What campaigns found, added to docs/kill9.json, and the page that says it: docs/kill9.md.

    python -m tests.chaos.page RESULT.json…

RESULT.json: what `python -m tests.chaos.kill9 --out` wrote. Without one, the page is written anew.
"""

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "docs" / "kill9.json"
PAGE = ROOT / "docs" / "kill9.md"
TITLES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
COUNTS = ("flows", "kills", "acknowledged", "interrupted")
FOUND = ("lost", "problems", "unaccounted", "unexpected", "predictions_lost")

HEAD = """# What kills at random moments leave

<!-- written by `python -m tests.chaos.page` -->

`python -m tests.chaos.kill9` runs the real processes of a home, lets people work in it without a pause, and sends SIGKILL to one
process at a random moment, now and then to two. A trial is one such moment. What died is started again, and while people go on,

- every event that was acknowledged until then must be in the log;
- `ai-infra audit reconcile` must find no row without its event, no event without its row, and no row that says another thing than
  its events told last;
- `ai-infra audit verify`, against the checkpoint of the trial before, must find nothing;
- no call may be answered with anything but success or a retryable refusal.

After the last kill of a batch (at most 20 trials) what was interrupted has to come to its end within 5 minutes: each promotion,
deployment, rollout and run. Then the platform is stopped: log, tables and records are read from outside, no process of the
trainer may be left, the log must tell of each signature that the proxy made, and each prediction that was answered must have its
record.

| flow | what people do at the same time | who dies |
|---|---|---|
| registry | register and approve data sets; register versions; set and lift flags; request, approve and carry out \
promotions | API, signing proxy, router |
| serving | promote a version, deploy it, ask it for 20 predictions through the router, take it out again, two at once; \
promotions | API, signing proxy, router, predictor, fork server of the predictors |
| training | order a run, follow it to its end, retry it if it failed, register a version of it; three at once | \
API, signing proxy, trainer, any other process of its Ray cluster |
| rollout | promote two versions, deploy one, roll the other out under traffic until it went through or back, take out what has \
the traffic, two at once; register versions and evaluate them; publish policies, signed by security, every 5 s | \
API, signing proxy, router, predictor, fork server of the predictors, evaluator |

Runs are real: Ray Train with one worker and three epochs with a checkpoint each, in the trainer that the API starts. They take
4 s, and the start of the cluster three to ten times as long; so before every other kill of that flow a run has to complete. In
the flow of rollouts one has to go through before every other kill: after two promotions and the start of two predictors it takes
some twenty requests, in steps of 20, 50 and 100 %. A publication sends promotions that were requested before it back to their
start, as the rule `promotion.request` wants: that refusal is the only other answer that people may get.

"""

TAIL = """
*Trainer* is the process that drives the cluster, or its parent; Ray's other processes are counted by the name that the kernel has
for them (in the batches of seed 21 the trainer is among `python`). Between the two databases nothing differs but their URLs. The
trials found no fault of the platform.

[`kill9.json`](kill9.json) has all counts, and the seeds with the trials of each. One of them again:

```sh
python -m tests.chaos.kill9 --database postgresql --flow training --trials 10 --seed 131
```

Without `--flow` all flows take turns. A seed decides who dies and after which wait, not what the processes are doing at that
moment. Two cores were shared with other work, at low priority. The batches of seeds 501 to 504 ran alone, after writers had begun
to share commits. Before those of seeds 603, 604, 703 and 704 reconciliation compared only which rows and events there are, and of
a version its stage, artifact and risk class. The suite (`tests/chaos`) has a few trials of each database.

Not in these trials: reruns and cancellations, rollouts that go back (none did) or that a person ends or extends, golden probes
and mirrored requests in rollouts, training and serving in a cluster, and kills of the PostgreSQL server. Its `fsync` is off here,
which only a power failure would show. An order whose answer was lost to a kill may be a second run: that one has to come to its
end too.
"""


def added(kept: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """All that is kept, with one more campaign. Raises ValueError: it is there already, by flow and seed."""
    database, seed = result["database"], str(result["seed"])
    old = kept.get(database, {})
    seeds = {flow: dict(known) for flow, known in old.get("seeds", {}).items()}
    for flow, trials in result["flows"].items():
        if seed in seeds.setdefault(flow, {}):
            raise ValueError(f"seed {seed} of flow {flow} on {database} is kept already")
        seeds[flow][seed] = trials
    found = {"seeds": seeds, "trials": old.get("trials", 0) + result["trials"]}
    found |= {name: dict(sorted((Counter(old.get(name, {})) + Counter(result[name])).items())) for name in COUNTS}
    found |= {name: old.get(name, 0) + result[name] for name in ("events", "signatures")}
    found |= {name: [*old.get(name, []), *result[name]] for name in FOUND}
    seconds = round(old.get("seconds", 0) + result["seconds"], 1)
    return {**kept, database: found | {"seconds": seconds, "ok": old.get("ok", True) and result["ok"], "cpus": result["cpus"]}}


def page(kept: Mapping[str, Any]) -> str:
    """docs/kill9.md."""
    columns = [dict(_figures(kept[database])) for database in TITLES]
    rows = [f"| {name} | {' | '.join(column[name] for column in columns)} |" for name in columns[0]]
    return HEAD + "\n".join([f"| | {' | '.join(TITLES.values())} |", "|---|---|---|", *rows, ""]) + TAIL


def _figures(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each row of one database."""
    kills, told, seeds = Counter(found["kills"]), Counter(found["acknowledged"]), found["seeds"]
    flows = ", ".join(f"{flow} {found['flows'][flow]}" for flow in seeds)
    ray = {name.removeprefix("ray: "): count for name, count in kills.items() if name.startswith("ray: ")}
    ray_names = ", ".join(f"`{name}` {count}" for name, count in sorted(ray.items(), key=lambda item: (-item[1], item[0])))
    again = told["promotion.requested"] - told["promotion.completed"]
    return [
        ("trials", f"{found['trials']:,} ({flows})"),
        ("processes killed", f"{kills.total():,}"),
        ("– API", f"{kills['api']:,}"),
        ("– signing proxy", f"{kills['signing-proxy']:,}"),
        ("– router", f"{kills['router']:,}"),
        ("– fork server of the predictors", f"{kills['forkserver']:,}"),
        ("– predictor", f"{kills['predictor']:,}"),
        ("– evaluator", f"{kills['evaluator']:,}"),
        ("– trainer", f"{kills['trainer']:,}"),
        ("– Ray's other processes", f"{sum(ray.values()):,} ({ray_names})"),
        ("writes acknowledged", f"{told.total() - told['prediction']:,}"),
        ("– runs that completed", f"{told['train.completed']:,}"),
        ("– runs that failed by a kill, and were retried to their end", f"{told['train.failed']:,}"),
        ("– evaluations", f"{told['evaluation.recorded']:,}"),
        ("– deployments, canaries among them", f"{told['deploy.started']:,}"),
        ("– rollouts that went through", f"{told['rollout.completed']:,}"),
        ("– rollouts that went back", f"{told['rollback']:,}"),
        ("– publications of policies", f"{told['policy.published']:,}"),
        ("– promotions requested again, under the next policies", f"{again:,}"),
        ("predictions acknowledged", f"{told['prediction']:,}"),
        ("calls repeated because of a kill", f"{sum(found['interrupted'].values()):,}"),
        ("events in the logs at the end", f"{found['events']:,}"),
        ("signatures made", f"{found['signatures']:,}"),
        ("**acknowledged events lost**", f"**{len(found['lost']):,}**"),
        ("**differences between state and log, or within the log**", f"**{len(found['problems']):,}**"),
        ("signatures that the log does not tell of", f"{len(found['unaccounted']):,}"),
        ("acknowledged predictions without a record", f"{len(found['predictions_lost']):,}"),
        ("answers other than success or a retryable refusal, and steps not carried on", f"{len(found['unexpected']):,}"),
        ("hours", f"{found['seconds'] / 3600:.1f}"),
    ]


def read() -> dict[str, Any]:
    """What is kept, by database."""
    kept: dict[str, Any] = json.loads(KEPT.read_text())
    return kept


def write(kept: Mapping[str, Any]) -> None:
    KEPT.write_text(json.dumps(kept, indent=2) + "\n")
    PAGE.write_text(page(kept))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.page", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="*", type=Path)
    kept = read()
    for path in parser.parse_args().results:
        kept = added(kept, json.loads(path.read_text()))
    write(kept)


if __name__ == "__main__":
    main()
