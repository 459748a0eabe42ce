"""What a layer hands to the layers after it: names of a stack's outputs, and their types. Writer and reader share one class."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Generic, Self, TypeVar, get_origin

import pulumi
from pulumi import Output, StackReference

T = TypeVar("T")


@dataclass(frozen=True)
class Entries(Generic[T]):
    """An output that is a mapping. Its keys are agreed between the layers: before a deployment nobody can list them.

    name: of the output, for messages.
    """

    values: Output[Mapping[str, T]]
    name: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        return cls(Output.from_input(dict(values)))

    def __getitem__(self, key: str) -> Output[T]:
        return self.values.apply(lambda values: _entry(self.name, values, key))


class Outputs:
    """Of one layer; its fields are `Output[str]` and `Entries`."""

    @classmethod
    def of(cls, reference: StackReference) -> Self:
        """What another stack wrote. An output that it does not have stops the program, with the remedy."""
        return cls(**{item.name: _read(reference, item.name, item.type) for item in fields(cls)})  # type: ignore[arg-type]

    def export(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            pulumi.export(item.name, value.values if isinstance(value, Entries) else value)


@dataclass(frozen=True, kw_only=True)
class GroundOutputs(Outputs):
    """Nothing here is secret: credentials are named by the ARN under which Secrets Manager holds them.

    cluster_certificate_authority: base64 of its PEM; oidc_issuer: without https://; node_subnet_ids: by zone; store_names,
    store_key_arns: by store; signing_key_arns: by purpose, from the first generation on; database_endpoint: host:port.
    """

    vpc_id: Output[str]
    node_subnet_ids: Entries[str]
    node_security_group_id: Output[str]
    cluster_name: Output[str]
    cluster_arn: Output[str]
    cluster_endpoint: Output[str]
    cluster_certificate_authority: Output[str]
    oidc_provider_arn: Output[str]
    oidc_issuer: Output[str]
    disks_key_arn: Output[str]
    unseal_key_arn: Output[str]
    karpenter_queue_name: Output[str]
    karpenter_instance_profile_name: Output[str]
    role_arns: Entries[str]
    store_names: Entries[str]
    store_key_arns: Entries[str]
    signing_aliases: Entries[str]
    signing_key_arns: Entries[list[str]]
    database_endpoint: Output[str]
    database_secret_arn: Output[str]
    alerts_topic_arn: Output[str]


@dataclass(frozen=True, kw_only=True)
class PlatformOutputs(Outputs):
    """URLs within the cluster. issuer: ClusterIssuer of certificates; otlp_url: takes traces and metrics, OTLP over HTTP."""

    issuer: Output[str]
    vault_url: Output[str]
    prometheus_url: Output[str]
    otlp_url: Output[str]


def _read(reference: StackReference, name: str, kind: Any) -> Any:
    wanted: type = dict if get_origin(kind) is Entries else str
    read = Output.all(reference.name, reference.get_output(name))
    found: Output[Any] = read.apply(lambda given: _present(given[0], name, given[1], wanted))
    return Entries(found, name) if wanted is dict else found


def _present(stack: str, name: str, value: Any, wanted: type) -> Any:
    if not isinstance(value, wanted):
        fault = "has no output" if value is None else f"has something else than a {wanted.__name__} as its output"
        raise pulumi.RunError(f"{stack} {fault} {name}: deploy that layer first, at this revision")
    return value


def _entry(output: str, values: Mapping[str, T], key: str) -> T:
    if key not in values:
        raise pulumi.RunError(f"the output {output} has no {key}, only {', '.join(sorted(values))}: deploy its layer first")
    return values[key]
