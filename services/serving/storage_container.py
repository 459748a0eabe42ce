"""KServe's storage initialiser for our models, as a pure function: a ClusterStorageContainer.

It runs `services.serving.initialiser`. KServe starts it before each predictor whose storage URI has our scheme, with that URI and
the folder as arguments, and copies what it says when it fails into the InferenceService's status.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.core.kube import Object, Resource
from services.serving.inference import CLOSED, IDENTITY_MOUNTS, MANAGED, require_memory, require_pinned, verifying
from services.serving.predictor.source import SCHEME

CONTAINERS = Resource("serving.kserve.io", "v1alpha1", "clusterstoragecontainers")
NAME = "ai-infra"
COMMAND = ("python3", "-m", "services.serving.initialiser")


@dataclass(frozen=True, kw_only=True)
class StorageArgs:
    """image: with its digest; environment: dev, staging or prod; api: URL of the API; objects: where the objects are, as the
    backend `s3` takes it, in that region of AWS; requests, limits: quantities by resource. It reads with the rights of the
    predictor's account."""

    image: str
    environment: str
    api: str
    objects: str
    region: str
    requests: Mapping[str, str]
    limits: Mapping[str, str]

    def __post_init__(self) -> None:
        require_pinned(self.image)
        require_memory(self.limits)


def storage_container(args: StorageArgs) -> Object:
    """The ClusterStorageContainer: one for the cluster. Volumes are those of the predictor's ServingRuntime."""
    objects = {"AI_INFRA_OBJECT_BACKEND": "s3", "AI_INFRA_OBJECTS": args.objects, "AWS_DEFAULT_REGION": args.region}
    environment = verifying(args.environment, args.api) | objects
    return {
        "apiVersion": f"{CONTAINERS.group}/{CONTAINERS.version}",
        "kind": "ClusterStorageContainer",
        "metadata": {"name": NAME, "labels": dict(MANAGED)},
        "spec": {
            "container": {
                "name": "storage-initializer",
                "image": args.image,
                # No arguments: KServe appends the URI and the folder.
                "command": list(COMMAND),
                "env": [{"name": name, "value": value} for name, value in environment.items()],
                "resources": {"requests": dict(args.requests), "limits": dict(args.limits)},
                "securityContext": CLOSED,
                # The last lines on stderr are the message that KServe shows.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": IDENTITY_MOUNTS,
            },
            "supportedUriFormats": [{"prefix": SCHEME}],
            "supportsMultiModelDownload": False,
            "workloadType": "initContainer",
        },
    }
