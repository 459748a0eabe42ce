"""How a managed node starts: launch templates with IMDSv2 one hop away, encrypted disks and no public address."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pulumi import Input, ResourceOptions
from pulumi_aws import ec2

Interface = ec2.LaunchTemplateNetworkInterfaceArgs


@dataclass(frozen=True, kw_only=True)
class Host:
    """physical: name of the template, and the Name of what it starts; disk_gib: root volume; tags: of instances and volumes."""

    physical: str
    disk_gib: int
    disks_key_arn: Input[str]
    tags: Mapping[str, str]


def interface(security_groups: Sequence[Input[str]]) -> Interface:
    """The one interface of an ordinary node."""
    return Interface(
        device_index=0, associate_public_ip_address="false", delete_on_termination="true", security_groups=list(security_groups)
    )


def efa_interfaces(count: int, security_groups: Sequence[Input[str]]) -> list[Interface]:
    """One Elastic Fabric Adapter for each network card. EC2 takes no word on public addresses for more than one interface."""
    return [
        Interface(
            device_index=0 if card == 0 else 1,
            network_card_index=card,
            interface_type="efa",
            delete_on_termination="true",
            security_groups=list(security_groups),
        )
        for card in range(count)
    ]


def launch_template(
    name: str,
    host: Host,
    interfaces: Sequence[Interface],
    *,
    placement_group: Input[str] | None = None,
    capacity_reservation_id: str | None = None,
    opts: ResourceOptions,
) -> ec2.LaunchTemplate:
    disk = ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
        volume_size=host.disk_gib, volume_type="gp3", encrypted="true", kms_key_id=host.disks_key_arn, delete_on_termination="true"
    )
    tags = {**host.tags, "Name": host.physical}
    return ec2.LaunchTemplate(
        name,
        name=host.physical,
        update_default_version=True,
        block_device_mappings=[ec2.LaunchTemplateBlockDeviceMappingArgs(device_name="/dev/xvda", ebs=disk)],
        metadata_options=ec2.LaunchTemplateMetadataOptionsArgs(
            http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
        ),
        monitoring=ec2.LaunchTemplateMonitoringArgs(enabled=True),
        network_interfaces=list(interfaces),
        placement=ec2.LaunchTemplatePlacementArgs(group_name=placement_group) if placement_group else None,
        capacity_reservation_specification=_reserved(capacity_reservation_id) if capacity_reservation_id else None,
        # The provider's default tags reach the template, and not what it starts.
        tag_specifications=[
            ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=tags)
            for kind in ("instance", "network-interface", "volume")
        ],
        opts=opts,
    )


def _reserved(reservation: str) -> ec2.LaunchTemplateCapacityReservationSpecificationArgs:
    target = ec2.LaunchTemplateCapacityReservationSpecificationCapacityReservationTargetArgs(capacity_reservation_id=reservation)
    return ec2.LaunchTemplateCapacityReservationSpecificationArgs(capacity_reservation_target=target)
