"""Deployments: which version of a model serves in which environment. The desired state lives here; the router follows it.

Every change is one transaction with its events. Rollouts are in `rollouts`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, delete, insert, select, update

from services.core.clock import Clock
from services.core.database import begin
from services.core.errors import Refused
from services.core.events import EventDraft, Subject
from services.core.ids import new_id
from services.serving import tables
from services.serving.domain import (
    ABORTED,
    ACTIVE,
    CALIBRATING,
    QUARANTINED,
    ROLLED_BACK,
    RUNNING,
    SERVING,
    STARTING,
    STOPPED,
    UNDECIDED,
    DeploymentSpec,
    Servable,
)
from services.serving.errors import AlreadyServed, Quarantined, RolloutRunning, UnknownDeployment
from services.serving.ports import Events, Policy, ServingBackend, Versions

WARM_UP_REPLICAS = 2
"""Replicas of stable while a rollout calibrates: two that share by coin show how much slow spells of one server weigh."""


@dataclass(frozen=True)
class Serving:
    """Use cases over deployments."""

    engine: Engine
    events: Events
    clock: Clock
    versions: Versions
    policy: Policy
    backend: ServingBackend

    def deploy(self, spec: DeploymentSpec, actor: str) -> dict[str, Any]:
        """Serves a version where none of its model serves yet. The same version again answers its deployment.

        Raises:
            Refused: SentinelNet says no, or there is no manifest for the environment. AlreadyServed. Unavailable: retry.
        """
        found = self._route(spec.model, spec.environment)
        if found is not None:
            return self._known(found, spec)
        servable, decision = self.authorise(spec.model, spec.number, spec.environment, actor)
        with begin(self.engine) as connection:
            deployment = self.insert(connection, servable, decision, spec.replicas, actor, role="stable")
            route = tables.routes
            taken = select(route).where((route.c.model == spec.model) & (route.c.environment == spec.environment))
            if connection.execute(taken).first() is not None:
                raise AlreadyServed(f"{spec.model} was deployed to {spec.environment} by somebody else just now")
            values = {"environment": spec.environment, "model": spec.model, "stable": deployment}
            connection.execute(insert(route).values(**values))
        return self.get(deployment)

    def authorise(self, model: str, number: int, environment: str, actor: str) -> tuple[Servable, str]:
        """The version, and the id of the decision that allows to serve it. The decision is durable before anything happens."""
        facts = self.versions.deploy_input(model, number, environment)
        subject = Subject("model", f"{model}@{number}", facts.get("version", {}).get("artifactId"))
        decision = self.policy.decide("deploy", facts, subject, actor)
        if decision.verdict != "pass":
            refusals = [rule for rule in decision.rules if rule["verdict"] != "pass"]
            names = ", ".join(rule["rule"] for rule in refusals)
            raise Refused(f"{model}@{number} is not served in {environment}: {names} (decision {decision.id})", refusals)
        return self.versions.servable(model, number, environment), decision.id

    def insert(
        self, connection: Connection, servable: Servable, decision: str, replicas: int, actor: str, *, role: str
    ) -> str:
        """Row and event of a new deployment, in the caller's transaction. role: stable or canary."""
        deployment = new_id("dep")
        values = {
            "id": deployment,
            "model": servable.model,
            "number": servable.number,
            "environment": servable.environment,
            "artifact_id": servable.artifact_id,
            "files": [entry.to_json() for entry in servable.files],
            "manifest": servable.manifest,
            "manifest_ref": servable.manifest_ref,
            "bundle": servable.bundle,
            "replicas": replicas,
            "state": SERVING,
            "reason": "",
            "decision_id": decision,
            "created_by": actor,
            "created_at": self.clock(),
        }
        connection.execute(insert(tables.deployments).values(**values))
        payload = {"decision": decision, "replicas": replicas, "role": role}
        self._emit(connection, "deploy.started", values, actor, payload)
        return deployment

    def undeploy(self, deployment: str, actor: str) -> dict[str, Any]:
        """Stops a deployment and its route. Raises UnknownDeployment; RolloutRunning: abort the rollout first."""
        with begin(self.engine) as connection:
            row = self._row(connection, deployment)
            if self._active_rollouts(connection, [deployment]):
                raise RolloutRunning(f"a rollout of {row['model']} runs in {row['environment']}: abort it first")
            connection.execute(delete(tables.routes).where(tables.routes.c.stable == deployment))
            self.stop(connection, deployment, "undeployed", actor)
        return self.get(deployment)

    def stop(self, connection: Connection, deployment: str, reason: str, actor: str, state: str = STOPPED) -> None:
        """Row and event, in the caller's transaction; one that is stopped already changes nothing."""
        row = self._row(connection, deployment)
        if row["state"] in (STOPPED, state):
            return
        table = tables.deployments
        connection.execute(update(table).where(table.c.id == deployment).values(state=state, reason=reason))
        self._emit(connection, "deploy.stopped", row, actor, {"reason": reason, "state": state})

    def quarantine(self, deployments: Sequence[str], reason: str, actor: str) -> None:
        """Stops the traffic of these deployments; rollouts that they take part in end. The router follows within a second."""
        with begin(self.engine) as connection:
            for rollout in self._active_rollouts(connection, deployments):
                self._end_rollout(connection, rollout, deployments, reason, actor)
            for deployment in deployments:
                self.stop(connection, deployment, reason, actor, QUARANTINED)

    def lift(self, deployments: Sequence[str], actor: str) -> None:
        """Serves quarantined deployments again; the caller has checked the signed clearance.

        Raises:
            Quarantined: another flag is still active on one of them; nothing was changed.
        """
        # Read before the transaction: flags are asked of the log, whose relay writes to this database too. A flag that is set in
        # between stops the deployment in the next round.
        for deployment in deployments:
            found = self.get(deployment)
            if found["state"] == QUARANTINED and (flags := self.versions.flags(found["model"], found["number"])):
                raise Quarantined(f"{found['model']}@{found['number']} has another active flag: {'; '.join(flags)}")
        with begin(self.engine) as connection:
            for deployment in deployments:
                row = self._row(connection, deployment)
                if row["state"] != QUARANTINED:
                    continue
                table = tables.deployments
                connection.execute(update(table).where(table.c.id == deployment).values(state=SERVING, reason=""))
                self._emit(connection, "deploy.started", row, actor, {"reason": "quarantine lifted"})

    def quarantine_reasons(self, deployment: str) -> list[str]:
        """Why a predictor must not load this deployment; empty when it may. Raises UnknownDeployment."""
        with self.engine.connect() as connection:
            row = self._row(connection, deployment)
        flags = self.versions.flags(row["model"], row["number"])
        if row["state"] != SERVING:
            flags.append(f"the deployment is {row['state']}: {row['reason']}")
        return flags

    def get(self, deployment: str) -> dict[str, Any]:
        """The record. Raises UnknownDeployment."""
        with self.engine.connect() as connection:
            return _record(self._row(connection, deployment))

    def status(self, deployment: str) -> dict[str, Any]:
        """As get, with the state of its predictors. Raises UnknownDeployment, Unavailable (the router is away)."""
        found = self.get(deployment)  # first: only an id that is ours goes into the router's URL
        health = self.backend.health(deployment)
        predictors = {"ready": health.ready, "refused": health.refused, "replicas": list(health.detail)}
        return found | {"predictors": predictors}

    def all(self) -> list[dict[str, Any]]:
        """Every deployment, oldest first."""
        table = tables.deployments
        with self.engine.connect() as connection:
            return [_record(row) for row in connection.execute(select(table).order_by(table.c.id)).mappings()]

    def desired(self) -> dict[str, Any]:
        """What the router has to bring about: predictors, routes, and the split of each running rollout."""
        with self.engine.connect() as connection:
            live = select(tables.deployments).where(tables.deployments.c.state != STOPPED)
            rows = {row["id"]: row for row in connection.execute(live).mappings()}
            query = select(tables.rollouts).where(tables.rollouts.c.state.in_(ACTIVE))
            rollouts = {row["stable"]: row for row in connection.execute(query).mappings()}
            routes = list(connection.execute(select(tables.routes)).mappings())
        deployments = [_order(row, rollouts.get(row["id"])) for row in rows.values() if row["state"] == SERVING]
        return {
            "deployments": sorted(deployments, key=lambda item: str(item["deployment"])),
            "routes": [_wanted_route(route, rows[route["stable"]], rollouts.get(route["stable"])) for route in routes],
        }

    def _known(self, deployment: str, spec: DeploymentSpec) -> dict[str, Any]:
        found = self.get(deployment)
        if found["number"] == spec.number:
            return found
        raise AlreadyServed(
            f"{spec.model}@{found['number']} serves in {spec.environment}: start a rollout to {spec.model}@{spec.number}, "
            f"or undeploy {deployment} first"
        )

    def _route(self, model: str, environment: str) -> str | None:
        route = tables.routes
        query = select(route.c.stable).where((route.c.model == model) & (route.c.environment == environment))
        with self.engine.connect() as connection:
            return connection.execute(query).scalar()

    def _row(self, connection: Connection, deployment: str) -> RowMapping:
        table = tables.deployments
        row = connection.execute(select(table).where(table.c.id == deployment)).mappings().first()
        if row is None:
            raise UnknownDeployment(f"no deployment {deployment[:100]!r}: `ai-infra deployments` shows those there are")
        return row

    def _active_rollouts(self, connection: Connection, deployments: Sequence[str]) -> list[RowMapping]:
        table = tables.rollouts
        involved = table.c.stable.in_(deployments) | table.c.canary.in_(deployments)
        return list(connection.execute(select(table).where(involved & table.c.state.in_(ACTIVE))).mappings())

    def _end_rollout(
        self, connection: Connection, rollout: RowMapping, flagged: Sequence[str], reason: str, actor: str
    ) -> None:
        state = ROLLED_BACK if rollout["canary"] in flagged else ABORTED
        table = tables.rollouts
        payload = {"rollout": rollout["id"], "reason": reason, "state": state, "canary": rollout["canary"]}
        draft = EventDraft("rollback", actor, Subject("rollout", rollout["id"]), payload)
        event = self.events.emit(connection, draft)
        values = {"state": state, "reason": reason, "weight": 0.0, "event": event, "since": self.clock()}
        connection.execute(update(table).where(table.c.id == rollout["id"]).values(**values))
        self.stop(connection, rollout["canary"], reason, actor)

    def _emit(
        self, connection: Connection, kind: str, row: RowMapping | dict[str, Any], actor: str, payload: dict[str, Any]
    ) -> None:
        about = {
            "deployment": row["id"],
            "model": row["model"],
            "number": row["number"],
            "environment": row["environment"],
            "artifactId": row["artifact_id"],
        }
        subject = Subject("deployment", row["id"], row["artifact_id"])
        self.events.emit(connection, EventDraft(kind, actor, subject, about | payload, manifest_ref=row["manifest_ref"]))


def _record(row: RowMapping) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "files"}


def _order(row: RowMapping, rollout: RowMapping | None) -> dict[str, Any]:
    warming = rollout is not None and rollout["state"] in (STARTING, CALIBRATING)
    return {
        "deployment": row["id"],
        "environment": row["environment"],
        "model": row["model"],
        "number": row["number"],
        "artifactId": row["artifact_id"],
        "files": row["files"],
        "manifest": row["manifest"],
        "bundle": row["bundle"],
        "replicas": max(row["replicas"], WARM_UP_REPLICAS) if warming else row["replicas"],
    }


def _wanted_route(route: RowMapping, stable: RowMapping, rollout: RowMapping | None) -> dict[str, Any]:
    split = None
    if rollout is not None and rollout["state"] in (RUNNING, UNDECIDED):
        spec, rule = rollout["spec"], rollout["rule"]
        split = {
            "id": rollout["id"],
            "canary": rollout["canary"],
            "weight": rollout["weight"],
            "seed": rollout["seed"],
            "warmUp": spec["warmUp"],
            "mirror": spec["mirror"],
            "edges": rule["edges"],
            "tolerance": rule["tolerance"],
        }
    return {
        "environment": route["environment"],
        "model": route["model"],
        "state": stable["state"],
        "reason": stable["reason"],
        "stable": route["stable"],
        "rollout": split,
    }
