"""The Kubernetes API over HTTP: server-side apply, get, list, watch, delete; answers turned into our errors. ADR 16 says why httpx.

It knows paths and JSON, no kinds: what an object holds is the business of who builds it.
"""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from services.core import errors

IN_CLUSTER = "/var/run/secrets/kubernetes.io/serviceaccount"
TIMEOUT_S = 10.0
WATCH_S = 60
"""Seconds after which the server ends a watch; it is then taken up where it ended."""

Object = dict[str, Any]


class WatchExpired(errors.Unavailable):
    """The server no longer has the history that a watch asks for (410): list again."""


class FieldConflict(errors.Conflict):
    """Another field manager has set a field that we apply; the message names both."""


@dataclass(frozen=True)
class Access:
    """Where the API server is and who we are. ca, token: files; the token is read for each request, as the kubelet renews it."""

    url: str
    ca: Path
    token: Path

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """AI_INFRA_KUBE_URL, _CA and _TOKEN (files); in a pod the service account's own.

        Raises:
            BadSetting: there is no such file; the message names the variable.
        """
        folder = Path(IN_CLUSTER)
        access = cls(
            url=environ.get("AI_INFRA_KUBE_URL", "https://kubernetes.default.svc"),
            ca=Path(environ.get("AI_INFRA_KUBE_CA", folder / "ca.crt")),
            token=Path(environ.get("AI_INFRA_KUBE_TOKEN", folder / "token")),
        )
        for name, path in (("AI_INFRA_KUBE_CA", access.ca), ("AI_INFRA_KUBE_TOKEN", access.token)):
            if not path.is_file():
                raise errors.BadSetting(f"{name}: no file {path}; in a pod, mount the service account's token")
        return access


@dataclass(frozen=True)
class Resource:
    """A kind by its place in the API. plural: as in the path."""

    group: str
    version: str
    plural: str

    @property
    def base(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def collection(self, namespace: str = "") -> str:
        """Path of all objects, or of those in one namespace."""
        return f"{self.base}/namespaces/{namespace}/{self.plural}" if namespace else f"{self.base}/{self.plural}"

    def one(self, name: str, namespace: str = "") -> str:
        return f"{self.collection(namespace)}/{name}"


PODS = Resource("", "v1", "pods")


class Kube:
    """A client, for one thread: shared between threads, one of its TLS connections broke once in a test (bad record MAC).

    Every method raises Unavailable when the server does not answer or asks to wait (retry), and Refused when RBAC, admission or
    validation say no; the message is the server's.
    """

    def __init__(self, access: Access, manager: str, transport: httpx.BaseTransport | None = None) -> None:
        """manager: our name as a field manager; transport: what carries the requests, if not httpx's own."""
        self._access, self._manager = access, manager
        context = ssl.create_default_context(cafile=str(access.ca))
        self._client = httpx.Client(base_url=access.url, verify=context, timeout=TIMEOUT_S, transport=transport)

    def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        """Raises NotFound."""
        return self._call("GET", resource.one(name, namespace))

    def list(self, resource: Resource, namespace: str = "", *, labels: str = "") -> Object:
        """The list, with its resourceVersion. labels: a selector."""
        return self._call("GET", resource.collection(namespace), params={"labelSelector": labels} if labels else {})

    def apply(self, resource: Resource, wanted: Object, *, force: bool = False, dry_run: bool = False) -> Object:
        """Server-side apply: fields that we applied before and leave out now are removed. Unknown fields are refused.

        Raises:
            FieldConflict: without force, somebody else has set one of the fields.
        """
        meta = wanted["metadata"]
        params = {"fieldManager": self._manager, "fieldValidation": "Strict", "force": str(force).lower()}
        path = resource.one(meta["name"], meta.get("namespace", ""))
        headers = {"Content-Type": "application/apply-patch+yaml"}
        more = {"dryRun": "All"} if dry_run else {}
        return self._call("PATCH", path, params=params | more, content=json.dumps(wanted), headers=headers)

    def delete(self, resource: Resource, name: str, namespace: str = "", *, uid: str = "", last: bool = False) -> None:
        """Deletes; one that is gone already is fine. uid: only that very object, not one made anew under its name: Conflict; last:
        the object goes after all that it owns, not before."""
        options: Object = {"propagationPolicy": "Foreground" if last else "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            self._call("DELETE", resource.one(name, namespace), json=options)
        except errors.NotFound:
            return

    @contextmanager
    def watch(self, resource: Resource, version: str, namespace: str = "", *, labels: str = "") -> Iterator[Iterator[Object]]:
        """Entered once the server took the watch: events after a resourceVersion, each {"type", "object"}, until it ends the watch.

        Raises:
            WatchExpired: the version is too old.
        """
        params = {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(WATCH_S), "allowWatchBookmarks": "true"}
        params |= {"labelSelector": labels} if labels else {}
        limit = httpx.Timeout(TIMEOUT_S, read=WATCH_S + TIMEOUT_S)
        with self._reaching(), self._client.stream(
            "GET", resource.collection(namespace), params=params, headers=self._headers(), timeout=limit
        ) as response:
            if not response.is_success:
                response.read()
                raise error_of(response.status_code, response.content)
            yield _events(response)

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any) -> Object:
        with self._reaching():
            response = self._client.request(method, path, headers=self._headers() | dict(headers or {}), **options)
        if not response.is_success:
            raise error_of(response.status_code, response.content)
        found: Object = response.json()
        return found

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._access.token.read_text().strip()}", "Accept": "application/json"}

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (httpx.TransportError, json.JSONDecodeError) as error:
            raise errors.Unavailable(f"{self._access.url} broke off: {type(error).__name__} {error}") from error


def _events(response: httpx.Response) -> Iterator[Object]:
    for line in response.iter_lines():
        event = json.loads(line)
        if event["type"] == "ERROR":
            raise error_of(event["object"]["code"], json.dumps(event["object"]).encode())
        yield event


def error_of(code: int, body: bytes) -> errors.AiInfraError:
    """The error that a `Status` object stands for."""
    try:
        status = json.loads(body)
        message = str(status.get("message", ""))
    except (json.JSONDecodeError, AttributeError):
        message = body[:300].decode(errors="replace")
    message = message or f"HTTP {code}"
    if code == 404:
        return errors.NotFound(message)
    if code == 410:
        return WatchExpired(message)
    if code == 409:
        return FieldConflict(message) if message.startswith("Apply failed with") else errors.Conflict(message)
    # Of an unknown field in a built-in kind, server-side apply says 500.
    if code in (400, 403, 422) or "failed to create typed patch object" in message:
        return errors.Refused(message)
    # 401 too: a token that expires is renewed.
    return errors.Unavailable(f"HTTP {code}: {message}")
