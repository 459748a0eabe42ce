"""What the ground hands to the layers above it: names of a stack's outputs, and their types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import pulumi
from pulumi import Output


@dataclass(frozen=True, kw_only=True)
class GroundOutputs:
    """Nothing here is secret: credentials are named by the ARN under which Secrets Manager holds them.

    cluster_certificate_authority: base64 of its PEM; oidc_issuer: without https://; node_subnet_ids: by zone; store_names,
    store_key_arns: by store; signing_key_arns: by purpose, from the first generation on; database_endpoint: host:port.
    """

    vpc_id: Output[str]
    node_subnet_ids: Mapping[str, Output[str]]
    node_security_group_id: Output[str]
    cluster_name: Output[str]
    cluster_arn: Output[str]
    cluster_endpoint: Output[str]
    cluster_certificate_authority: Output[str]
    oidc_provider_arn: Output[str]
    oidc_issuer: Output[str]
    disks_key_arn: Output[str]
    karpenter_queue_name: Output[str]
    karpenter_instance_profile_name: Output[str]
    role_arns: Mapping[str, Output[str]]
    store_names: Mapping[str, Output[str]]
    store_key_arns: Mapping[str, Output[str]]
    signing_aliases: Mapping[str, str]
    signing_key_arns: Mapping[str, Sequence[Output[str]]]
    database_endpoint: Output[str]
    database_secret_arn: Output[str]
    alerts_topic_arn: Output[str]

    def export(self) -> None:
        for item in fields(self):
            pulumi.export(item.name, getattr(self, item.name))
