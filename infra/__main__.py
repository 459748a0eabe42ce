"""The Pulumi program: reads the configuration of one layer of an environment, and makes that layer."""

import pulumi

from stacks.apps import apps
from stacks.boundary import bounded
from stacks.config import AppsStack, ConfigRefused, GroundStack, PlatformStack, parse
from stacks.ground import ground
from stacks.platform import platform


def main() -> None:
    try:
        config = parse(pulumi.get_stack(), pulumi.Config("ai-infra").require_object("stack"))
    except ConfigRefused as refused:
        # The engine shows this error's message alone, without a traceback.
        raise pulumi.RunError(str(refused)) from refused
    pulumi.runtime.register_stack_transformation(bounded(config))
    match config:
        case GroundStack():
            ground(config)
        case PlatformStack():
            platform(config)
        case AppsStack():
            apps(config)


if __name__ == "__main__":
    main()
