"""The permissions boundary that each IAM role of an environment has: CI's deploy role may make no other (infra/bootstrap)."""

from collections.abc import Callable

from pulumi import ResourceTransformationArgs, ResourceTransformationResult

from stacks.config import StackConfig

ROLE = "aws:iam/role:Role"

Transformation = Callable[[ResourceTransformationArgs], ResourceTransformationResult | None]


def bounded(config: StackConfig) -> Transformation:
    """For the whole stack, so that no component can forget it."""
    arn = f"arn:aws:iam::{config.account}:policy/ai-infra-ci-boundary-{config.environment}"

    def transformation(args: ResourceTransformationArgs) -> ResourceTransformationResult | None:
        if args.type_ != ROLE:
            return None
        return ResourceTransformationResult({**args.props, "permissions_boundary": arn}, args.opts)

    return transformation
