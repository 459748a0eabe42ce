"""What is in a pod of ours: containers that can do little, and the files that they are given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pulumi import Input
from pulumi_kubernetes.core.v1 import (
    CapabilitiesArgs,
    ConfigMapVolumeSourceArgs,
    ContainerArgs,
    ContainerPortArgs,
    EmptyDirVolumeSourceArgs,
    EnvVarArgs,
    ExecActionArgs,
    HTTPGetActionArgs,
    KeyToPathArgs,
    PersistentVolumeClaimVolumeSourceArgs,
    PodSecurityContextArgs,
    ProbeArgs,
    ProjectedVolumeSourceArgs,
    ResourceRequirementsArgs,
    SeccompProfileArgs,
    SecretVolumeSourceArgs,
    SecurityContextArgs,
    ServiceAccountTokenProjectionArgs,
    VolumeArgs,
    VolumeMountArgs,
    VolumeProjectionArgs,
)

from services.serving.inference import USER, require_pinned

READABLE: Final = 0o440


@dataclass(frozen=True, kw_only=True)
class SecretFiles:
    """All keys of a secret."""

    secret: str


@dataclass(frozen=True, kw_only=True)
class ConfigFiles:
    """items: key → file name. one: this file alone, as its mount's path; it keeps its content until the pod ends."""

    config_map: str
    items: Mapping[str, str]
    one: str = ""


@dataclass(frozen=True, kw_only=True)
class AccountToken:
    """`token`: of the service account, for one audience, renewed by the kubelet."""

    audience: str


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A volume that outlives the pod, and that one pod at a time can have."""

    claim: str


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A volume that pods on other nodes have too. claim: made elsewhere."""

    claim: str


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Room that ends with the pod. size: quantity."""

    size: str


Source = SecretFiles | ConfigFiles | AccountToken | Disk | Shared | Scratch


@dataclass(frozen=True, kw_only=True)
class Mount:
    path: str
    source: Source


@dataclass(frozen=True, kw_only=True)
class Command:
    """A probe within the container, for who answers nobody without a certificate."""

    words: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Http:
    """A probe over plain HTTP."""

    port: int
    path: str


@dataclass(frozen=True, kw_only=True)
class Probes:
    """live: whether it has to be started again; ready: whether it takes calls; start_s: seconds that a start may take."""

    live: Command | Http
    ready: Command | Http
    start_s: int


@dataclass(frozen=True, kw_only=True)
class Container:
    """image: with its digest; command, arguments: as Kubernetes has them; ports, mounts: by name; settings: environment variables;
    requests, limits: quantities by resource."""

    name: str
    image: str
    probes: Probes
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    command: Sequence[str] = ()
    arguments: Sequence[str] = ()
    ports: Mapping[str, int]
    settings: Mapping[str, Input[str]]
    mounts: Mapping[str, Mount]

    def __post_init__(self) -> None:
        require_pinned(self.image)
        if not {"cpu", "memory"} <= self.requests.keys() or "memory" not in self.limits:
            raise ValueError(f"{self.name}: request cpu and memory, and limit memory, or one container can take a node's")


def container(wanted: Container) -> ContainerArgs:
    probes = wanted.probes
    return ContainerArgs(
        name=wanted.name,
        image=wanted.image,
        command=list(wanted.command) or None,
        args=list(wanted.arguments) or None,
        env=[EnvVarArgs(name=name, value=value) for name, value in sorted(wanted.settings.items())],
        ports=[ContainerPortArgs(name=name, container_port=port, protocol="TCP") for name, port in wanted.ports.items()],
        resources=ResourceRequirementsArgs(requests=dict(wanted.requests), limits=dict(wanted.limits)),
        # Until it has started, the other two do not run: a long migration of a database is no reason to end it.
        startup_probe=_probe(probes.live, period_s=5, failures=-(-probes.start_s // 5)),
        liveness_probe=_probe(probes.live, period_s=10, failures=6),
        readiness_probe=_probe(probes.ready, period_s=10, failures=3),
        security_context=SecurityContextArgs(
            allow_privilege_escalation=False,
            capabilities=CapabilitiesArgs(drop=["ALL"]),
            privileged=False,
            read_only_root_filesystem=True,
        ),
        volume_mounts=[_mount(name, mount) for name, mount in wanted.mounts.items()],
    )


def volumes(mounts: Mapping[str, Mount]) -> list[VolumeArgs]:
    return [_volume(name, mount.source) for name, mount in mounts.items()]


def pod_security() -> PodSecurityContextArgs:
    return PodSecurityContextArgs(
        run_as_non_root=True,
        run_as_user=USER,
        run_as_group=USER,
        # What is mounted belongs to the group.
        fs_group=USER,
        # A large volume's files are not walked through at each start.
        fs_group_change_policy="OnRootMismatch",
        seccomp_profile=SeccompProfileArgs(type="RuntimeDefault"),
    )


def _probe(asked: Command | Http, *, period_s: int, failures: int) -> ProbeArgs:
    found = ProbeArgs(period_seconds=period_s, timeout_seconds=5, failure_threshold=failures)
    match asked:
        case Command():
            found.exec_ = ExecActionArgs(command=list(asked.words))
        case Http():
            found.http_get = HTTPGetActionArgs(path=asked.path, port=asked.port, scheme="HTTP")
    return found


def _mount(name: str, mount: Mount) -> VolumeMountArgs:
    source = mount.source
    one = source.one if isinstance(source, ConfigFiles) and source.one else None
    written = isinstance(source, Disk | Shared | Scratch)
    return VolumeMountArgs(name=name, mount_path=mount.path, sub_path=one, read_only=not written)


def _volume(name: str, source: Source) -> VolumeArgs:
    match source:
        case SecretFiles():
            return VolumeArgs(name=name, secret=SecretVolumeSourceArgs(secret_name=source.secret, default_mode=READABLE))
        case ConfigFiles():
            items = [KeyToPathArgs(key=key, path=path) for key, path in source.items.items()]
            found = ConfigMapVolumeSourceArgs(name=source.config_map, items=items, default_mode=READABLE)
            return VolumeArgs(name=name, config_map=found)
        case AccountToken():
            token = ServiceAccountTokenProjectionArgs(audience=source.audience, expiration_seconds=3600, path="token")
            sources = [VolumeProjectionArgs(service_account_token=token)]
            return VolumeArgs(name=name, projected=ProjectedVolumeSourceArgs(sources=sources, default_mode=READABLE))
        case Disk() | Shared():
            claim = PersistentVolumeClaimVolumeSourceArgs(claim_name=source.claim)
            return VolumeArgs(name=name, persistent_volume_claim=claim)
        case Scratch():
            return VolumeArgs(name=name, empty_dir=EmptyDirVolumeSourceArgs(size_limit=source.size))
