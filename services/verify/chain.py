"""The chain: its links by name, in the order of the walk. A link may rely on those before it."""

from collections.abc import Callable

from services.verify import links, prediction
from services.verify.walk import Walk

Check = Callable[[Walk], str]

OF_LOG: tuple[tuple[str, Check], ...] = (
    ("log checkpoint", links.checkpoint),
    ("log entries", links.entries),
)
OF_PREDICTION: tuple[tuple[str, Check], ...] = (
    ("prediction record", prediction.record),
    ("batch root", prediction.batch),
    ("batch in the log", prediction.sealed),
    ("deployment", prediction.deployment),
)
OF_VERSION: tuple[tuple[str, Check], ...] = (
    ("model version", links.model_version),
    ("manifest signature", links.manifest_signature),
    ("log inclusion", links.log_inclusion),
    ("weights", links.weights),
    ("model signature", links.model_signature),
    ("request and quorum", links.request_and_quorum),
    ("decision", links.decision),
    ("policies", links.policy),
    ("decision facts", links.facts),
    ("decision re-executed", links.reexecution),
)
OF_DEPLOYMENT: tuple[tuple[str, Check], ...] = (("deployment decision", prediction.deploy_decision),)
OF_ORIGIN: tuple[tuple[str, Check], ...] = (
    ("evaluation", links.evaluation),
    ("run", links.run),
    ("code and dependencies", links.code),
    ("data sets and licences", links.datasets),
    ("every byte accounted for", links.members),
)
OWN: tuple[str, Check] = ("your input and output", prediction.own_bytes)


def chain(*, predicted: bool, own: bool) -> tuple[tuple[str, Check], ...]:
    """The links of an archive. predicted: it is about a prediction; own: the caller gave its input or output."""
    if not predicted:
        return (*OF_LOG, *OF_VERSION, *OF_ORIGIN)
    first, *rest = OF_PREDICTION
    return (*OF_LOG, first, *((OWN,) if own else ()), *rest, *OF_VERSION, *OF_DEPLOYMENT, *OF_ORIGIN)
