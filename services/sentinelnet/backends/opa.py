"""An OPA server (REST API v1), one for each API process, as a side-car: whoever shares it would load his own bundle into it.

The server holds one bundle. A marker in its data names the revision; decision and marker are read in one query, so an answer
counts only if it came from the wanted bundle (a server that restarted, or was loaded by somebody else, is loaded again).
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from services.core.bundle import Bundle
from services.core.canonical import parse
from services.core.errors import BadInput, BadSetting
from services.core.rego import EvaluationFailed
from services.sentinelnet.errors import PolicyUnavailable
from services.sentinelnet.ports import PolicyEngine

PRODUCTION = True

TIMEOUT_S = 2.0
LOADING_S = 30.0
"""OPA compiles all modules with each that is put or removed, which takes long on a machine that is busy."""
ASK = "/v1/query"
MARKER = "ai_infra_revision"
PREFIX = "ai-infra/"
QUERY = f"revision := data.{MARKER}; value := [found | found := data.sentinelnet.decision]"


class OpaEngine:
    """client: its base URL is the server's."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._lock = threading.Lock()

    def evaluate(self, bundle: Bundle, input_value: Mapping[str, Any]) -> Any:
        found = self._ask(bundle, input_value)
        if found is None:
            # Under the lock, because two uploads at once would mix their modules.
            with self._lock:
                found = self._ask(bundle, input_value)
                if found is None:
                    self._load(bundle)
                    found = self._ask(bundle, input_value)
        if found is None:
            raise PolicyUnavailable("the OPA server does not keep the bundle it was given: does something else load it?")
        if not found:
            raise EvaluationFailed("data.sentinelnet.decision is undefined")
        return found[0]

    def _ask(self, bundle: Bundle, input_value: Mapping[str, Any]) -> list[Any] | None:
        """The value in a list, an empty list when it is undefined, None when the server holds another bundle."""
        answer = self._call("POST", ASK, {"query": QUERY, "input": dict(input_value)})
        for result in answer.get("result", []):
            if result["revision"] == bundle.revision:
                value: list[Any] = result["value"]
                return value
        return None

    def _load(self, bundle: Bundle) -> None:
        # 1. Take the marker away: from here until step 4 no answer counts, even if we crash.
        self._call("PUT", "/v1/data", {})
        # 2. and 3. Exchange the modules. OPA compiles after each step, so those that others call come first, and leave last.
        held = [policy["id"] for policy in self._call("GET", "/v1/policies").get("result", [])]
        self._settle((policy, self._remover(policy)) for policy in held)
        self._settle((PREFIX + path, self._putter(PREFIX + path, text)) for path, text in bundle.modules.items())
        # 4. Data and marker in one step.
        self._call("PUT", "/v1/data", {**bundle.data, MARKER: bundle.revision})

    def _settle(self, steps: Iterable[tuple[str, Callable[[], Any]]]) -> None:
        """Repeats the steps that OPA refused, as long as another one of them succeeded in between."""
        waiting = list(steps)
        while waiting:
            refused: list[tuple[str, Callable[[], Any]]] = []
            for name, step in waiting:
                try:
                    step()
                except EvaluationFailed as error:
                    refused.append((name, step))
                    reason = str(error)
            if len(refused) == len(waiting):
                raise EvaluationFailed(f"OPA refuses {refused[0][0]}: {reason}")
            waiting = refused

    def _remover(self, policy: str) -> Callable[[], Any]:
        return lambda: self._call("DELETE", f"/v1/policies/{quote(policy)}")

    def _putter(self, policy: str, text: str) -> Callable[[], Any]:
        return lambda: self._call("PUT", f"/v1/policies/{quote(policy)}", content=text.encode())

    def _call(self, method: str, path: str, body: Any = None, content: bytes | None = None) -> Any:
        """The answer's JSON.

        Raises:
            PolicyUnavailable: no answer, or not OPA's.
            EvaluationFailed: OPA says that policies or evaluation are wrong.
        """
        try:
            timeout_s = TIMEOUT_S if path == ASK else LOADING_S
            response = self._client.request(method, path, json=body, content=content, timeout=timeout_s)
        except httpx.HTTPError as error:
            raise PolicyUnavailable(f"the OPA server did not answer: {type(error).__name__}") from error
        try:
            answer = parse(response.content) if response.content else {}
        except BadInput as error:
            raise PolicyUnavailable(f"OPA answered {response.status_code} without JSON") from error
        if response.is_success:
            return answer
        if _is_verdict_on_policies(answer):
            raise EvaluationFailed(str(answer.get("message", ""))[:300])
        raise PolicyUnavailable(f"OPA answered {response.status_code}")


def open_engine(url: str) -> PolicyEngine:
    """url: of the server, `https://…`, or `http://` on loopback only."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        raise BadSetting(f"OPA at {url!r}: want https, or http on loopback (a side-car)")
    return OpaEngine(httpx.Client(base_url=url))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_verdict_on_policies(answer: Any) -> bool:
    """Whether an error is about Rego (compile or evaluation errors name a rego_… or eval_… code), not about the server."""
    if not isinstance(answer, dict):
        return False
    named = [answer, *(item for item in answer.get("errors") or [] if isinstance(item, dict))]
    texts = [str(item.get(key, "")) for item in named for key in ("code", "message")]
    return any(text.startswith(("rego_", "eval_")) for text in texts)
