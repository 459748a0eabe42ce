"""What the API server refuses of pods in a namespace of predictors: a ValidatingAdmissionPolicy. Nothing else runs there.

A pod there can have the predictor's certificate and its role in the cloud. So it is a predictor: our account, our image by digest,
our programs, and nothing of somebody else's that they would load. CEL cannot see what a ConfigMap or an image holds, nor whether
the model on the disk is the verified one: the predictor looks itself. Not here: who may read secrets, run a command in a pod, or
change this policy, which RBAC alone says.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.core import admission
from services.core.admission import refuse_unless
from services.core.kube import PODS, Object
from services.serving.inference import CONTAINER, MODELS, RuntimeArgs, require_pinned, serving_runtime
from services.serving.storage_container import StorageArgs, storage_container

NAME: Final = "ai-infra-predictor-pods"
DOWNLOADED: Final = "kserve-provision-location"
"""KServe's volume between its storage initialiser and the server."""
ADDED: Final = ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_STS_REGIONAL_ENDPOINTS")
"""Variables that EKS gives to a pod with a role in AWS, whatever their values."""
CREDENTIALS, CREDENTIALS_TOKEN = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
"""By Pod Identity: where AWS's libraries ask for the role's credentials, and what they show there."""
ROLE, ROLE_TOKEN = "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"
"""By IRSA: which role they ask STS for, and what they show there."""
AGENT: Final = ("http://169.254.170.23/v1/credentials", "http://[fd00:ec2::23]/v1/credentials")
"""EKS's own, on each node: another would choose whose objects are read. By IPv4 and by IPv6."""
ADDED_BY_KSERVE: Final = "HF_"
"""How the variables begin that KServe gives to every storage initialiser."""
TOKENS: Final = "/var/run/secrets/"
"""Where Kubernetes and EKS mount a pod's tokens."""
OF_EKS: Final = f"{TOKENS}pods.eks.amazonaws.com/"
OF_IRSA: Final = f"{TOKENS}eks.amazonaws.com/"
"""EKS's of these: another file, sent to the agent or to STS, is no token."""


@dataclass(frozen=True, kw_only=True)
class PredictorPods:
    """account: the only one there; role_arn: of AWS, no other may be asked for: it would choose whose objects are read; runtime,
    storage: what their pods are made of; former: images that pods may still be made with, for predictors keep the image that they
    started with."""

    account: str
    role_arn: str
    runtime: RuntimeArgs
    storage: StorageArgs
    former: Sequence[str] = ()

    def __post_init__(self) -> None:
        for image in self.former:
            require_pinned(image)


def policy(args: PredictorPods) -> Object:
    server = serving_runtime(args.runtime)["spec"]
    [main], initialiser = server["containers"], storage_container(args.storage)["spec"]["container"]
    mounts = {mount["name"]: mount["mountPath"] for mount in main["volumeMounts"]} | {DOWNLOADED: MODELS}
    images = list(dict.fromkeys((args.runtime.image, args.storage.image, *args.former)))
    own, starter = ({item["name"]: item["value"] for item in container["env"]} for container in (main, initialiser))
    variables = {
        # Two lists of one kind, whatever types the server gives them.
        "starters": "dyn(has(object.spec.initContainers) ? object.spec.initContainers : [])",
        "containers": "dyn(object.spec.containers) + variables.starters",
        "volumes": "has(object.spec.volumes) ? object.spec.volumes : []",
        "mounts": repr(mounts),
        "settings": repr(own | starter),
    }
    refusals = (
        refuse_unless(
            f"has(object.spec.serviceAccountName) && object.spec.serviceAccountName == '{args.account}'",
            f"pods here run as the service account {args.account}",
        ),
        refuse_unless(
            f"variables.containers.all(c, c.image in {images})",
            "an image is not the environment's: it is pinned in Pulumi.ENVIRONMENT-apps.yaml, former ones in former_images",
        ),
        refuse_unless(
            f"object.spec.containers.all(c, c.name == '{CONTAINER}' && {_is('c.command', main['command'])} && !has(c.args))"
            f" && variables.starters.all(c, {_is('c.command', initialiser['command'])})",
            "a container runs another program than the predictor or its storage initialiser, or with arguments of its own",
        ),
        refuse_unless(
            "variables.containers.all(c, !has(c.envFrom) && (!has(c.env) || c.env.all(e, e.name in variables.settings"
            " ? has(e.value) && e.value == variables.settings[e.name]"
            f" : !has(e.valueFrom) && ({_added(args.role_arn)}))))",
            "a container has a variable that is not ours, or another value in one of ours",
        ),
        # A setting that is away has a default: AI_INFRA_ENV is then `dev`.
        refuse_unless(
            f"object.spec.containers.all(c, {_has_all(own)}) && variables.starters.all(c, {_has_all(starter)})",
            "a container lacks a variable of ours, and would go by its default",
        ),
        refuse_unless(
            f"variables.volumes.all(v, {_volumes(server['volumes'])})",
            "a volume is neither the predictor's certificate, trust, an empty folder nor the pod's own token",
        ),
        # Whatever is mounted over Python's own folders would be run.
        refuse_unless(
            "variables.containers.all(c, !has(c.volumeDevices) && (!has(c.volumeMounts) || c.volumeMounts.all(m,"
            " m.name in variables.mounts ? m.mountPath == variables.mounts[m.name]"
            f" : m.mountPath.startsWith('{TOKENS}') && !m.mountPath.contains('..'))))",
            "a volume is mounted elsewhere than where the predictor looks for it",
        ),
        # `python -m` looks for modules in the working directory first.
        refuse_unless(
            "variables.containers.all(c, !has(c.workingDir) && (!has(c.lifecycle) || (!has(c.lifecycle.postStart)"
            " && (!has(c.lifecycle.preStop) || has(c.lifecycle.preStop.sleep))))"
            " && (!has(c.livenessProbe) || !has(c.livenessProbe.exec)) && (!has(c.readinessProbe) || !has(c.readinessProbe.exec))"
            " && (!has(c.startupProbe) || !has(c.startupProbe.exec)))",
            "a container has a working directory, or a hook or a probe that runs a program",
        ),
        refuse_unless("!has(object.spec.ephemeralContainers)", "no container is added to a predictor that runs"),
    )
    return admission.policy(NAME, PODS, refusals, variables=variables, subresources=["ephemeralcontainers"])


def binding(namespace: str) -> Object:
    return admission.binding(NAME, namespace=namespace)


def _is(field: str, words: list[str]) -> str:
    return f"has({field}) && {field} == {words}"


def _has_all(names: Iterable[str]) -> str:
    return f"has(c.env) && {list(names)}.all(name, c.env.exists(e, e.name == name))"


def _added(role_arn: str) -> str:
    """Of a variable that is none of ours and has a plain value."""
    tokens = {CREDENTIALS_TOKEN: OF_EKS, ROLE_TOKEN: OF_IRSA}
    valued = [
        f"e.name == '{CREDENTIALS}' && e.value in {list(AGENT)}",
        f"e.name == '{ROLE}' && e.value == '{role_arn}'",
        *(f"e.name == '{name}' && e.value.startsWith('{folder}') && !e.value.contains('..')" for name, folder in tokens.items()),
    ]
    return f"e.name in {list(ADDED)} || e.name.startsWith('{ADDED_BY_KSERVE}') || (has(e.value) && ({' || '.join(valued)}))"


def _volumes(stated: Sequence[dict[str, Any]]) -> str:
    """Of the runtime, by name and kind; KServe's; and tokens, under no name of these: they may be mounted elsewhere."""
    known = []
    for volume in stated:
        match volume:
            case {"name": str(name), "secret": {"secretName": str(secret)}}:
                known.append(f"(v.name == '{name}' && has(v.secret) && v.secret.secretName == '{secret}')")
            case {"name": str(name), "configMap": {"name": str(config)}}:
                known.append(f"(v.name == '{name}' && has(v.configMap) && v.configMap.name == '{config}')")
            case {"name": str(name), "emptyDir": _}:
                known.append(f"(v.name == '{name}' && has(v.emptyDir))")
    known.append(f"(v.name == '{DOWNLOADED}' && has(v.emptyDir))")
    known.append("(!(v.name in variables.mounts) && has(v.projected) && v.projected.sources.all(s, !has(s.secret)))")
    return " || ".join(known)
