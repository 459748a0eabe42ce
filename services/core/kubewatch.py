"""A mirror of one kind's objects: listed once, kept up to date by a watch, listed again when the watch cannot go on."""

import logging
import threading

from services.core.errors import AiInfraError, Unavailable
from services.core.kube import Kube, Object, Resource, WatchExpired

RETRY_S = 0.5

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""(namespace, name)"""


class Mirror:
    """Follows the objects with some labels in one namespace, in a thread of its own. changed: set after every change.

    A lost connection, a restarted server and an expired watch (410) cost a moment in which `objects` says Unavailable; nothing that
    happened meanwhile is missed, as the mirror goes on from the version it has or lists anew.
    """

    def __init__(self, kube: Kube, resource: Resource, labels: str, namespace: str) -> None:
        self._kube, self._resource, self._labels, self._namespace = kube, resource, labels, namespace
        self._objects: dict[Key, Object] = {}
        self._version = ""
        self._trouble = "it has not been listed yet"
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.changed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mirror of {resource.plural}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The thread ends with its present watch; it holds nothing that must be given back."""
        self._stop.set()

    def objects(self) -> dict[Key, Object]:
        """As they are in the cluster, but for a moment. Raises Unavailable: out of touch with the server."""
        with self._lock:
            if self._trouble:
                raise Unavailable(f"{self._resource.plural} of the cluster are not known: {self._trouble}")
            return dict(self._objects)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except WatchExpired as error:
                log.info("%s: the watch expired (%s): listing again", self._resource.plural, error)
                self._version = ""
            except AiInfraError as error:
                self._lose(str(error))
                self._stop.wait(RETRY_S)
            except Exception as error:  # a bug in one event must not end the mirror silently
                log.exception("the mirror of %s failed; it lists again", self._resource.plural)
                self._version = ""
                self._lose(str(error))
                self._stop.wait(RETRY_S)

    def _follow(self) -> None:
        if not self._version:
            found = self._kube.list(self._resource, self._namespace, labels=self._labels)
            with self._lock:
                self._objects = {key_of(item): item for item in found["items"]}
                self._version, self._trouble = found["metadata"]["resourceVersion"], ""
            self.changed.set()
        with self._kube.watch(self._resource, self._version, self._namespace, labels=self._labels) as events:
            # In touch again. Of a kind to which nothing happens, the first event may be a minute away.
            with self._lock:
                self._trouble = ""
            for event in events:
                self._take(event["type"], event["object"])
                if self._stop.is_set():
                    return

    def _take(self, kind: str, item: Object) -> None:
        with self._lock:
            self._version = item["metadata"]["resourceVersion"]
            if kind == "DELETED":
                self._objects.pop(key_of(item), None)
            elif kind != "BOOKMARK":
                self._objects[key_of(item)] = item
        if kind != "BOOKMARK":
            self.changed.set()

    def _lose(self, trouble: str) -> None:
        with self._lock:
            if not self._trouble:
                log.warning("%s: out of touch with the cluster: %s", self._resource.plural, trouble)
            self._trouble = trouble


def key_of(item: Object) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
