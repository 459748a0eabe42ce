"""Training's routes: decode, call, encode."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.core.authorise import Authorise, allowed
from services.core.http import Actor
from services.training.domain import StartRun
from services.training.service import Training

EVENTS_AFTER = Query(ge=0, description="How many epochs the caller has seen.")


def routes(training: Training, authorise: Authorise) -> APIRouter:
    """Every route of training. Progress is polled: GET events?after=N."""
    router = APIRouter(prefix="/v1/runs", tags=["training"])

    @router.post("", status_code=201)
    def start(order: StartRun, actor: str = allowed(authorise, "train.start")) -> dict[str, Any]:
        """Starts a run of source that was uploaded as an object."""
        return training.start(order, actor)

    @router.get("")
    def list_all(actor: Actor) -> list[dict[str, Any]]:
        """Every run, newest first."""
        return training.all()

    @router.get("/{run_id}")
    def get(run_id: str, actor: Actor) -> dict[str, Any]:
        """One run, with its inputs and its progress."""
        return training.get(run_id)

    @router.get("/{run_id}/events")
    def events(run_id: str, actor: Actor, after: Annotated[int, EVENTS_AFTER] = 0) -> dict[str, Any]:
        """The state, and metrics of the epochs behind the first `after` ones."""
        progress = training.progress(run_id, after)
        return {"state": training.get(run_id)["state"], "progress": progress}

    @router.post("/{run_id}/rerun", status_code=201)
    def rerun(run_id: str, actor: str = allowed(authorise, "train.rerun")) -> dict[str, Any]:
        """Trains again from the record alone, or names the first input that differs."""
        return training.rerun(run_id, actor)

    @router.post("/{run_id}/retry")
    def retry(run_id: str, actor: str = allowed(authorise, "train.start")) -> dict[str, Any]:
        """Goes on with a failed or cancelled run from its last checkpoint."""
        return training.retry(run_id, actor)

    @router.post("/{run_id}/cancel")
    def cancel(run_id: str, actor: str = allowed(authorise, "train.start")) -> dict[str, Any]:
        """Stops a run; its checkpoints stay."""
        return training.cancel(run_id, actor)

    return router
