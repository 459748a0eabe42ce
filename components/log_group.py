"""A group of logs in CloudWatch. Made before what writes there: AWS would make it itself, not encrypted and kept for ever."""

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_aws import cloudwatch


def log_group(
    name: str, physical: str, key_arn: Input[str], days: int, environment: str, parent: pulumi.Resource
) -> cloudwatch.LogGroup:
    """Encrypted by the key and kept for so many days. What it holds is nowhere else: prod protects it."""
    return cloudwatch.LogGroup(
        name,
        name=physical,
        kms_key_id=key_arn,
        retention_in_days=days,
        opts=ResourceOptions(parent=parent, protect=environment == "prod"),
    )
