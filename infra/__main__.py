"""The Pulumi program: reads the environment's configuration, and makes the layer that the stack is named after."""

from collections.abc import Callable, Mapping
from typing import Final

import pulumi

from stacks.boundary import bounded
from stacks.config import ConfigRefused, StackConfig, parse
from stacks.ground import ground

LAYERS: Final[Mapping[str, Callable[[StackConfig], None]]] = {"ground": ground}


def main() -> None:
    try:
        config = parse(pulumi.get_stack(), pulumi.Config("ai-infra").require_object("stack"))
    except ConfigRefused as refused:
        # The engine shows this error's message alone, without a traceback.
        raise pulumi.RunError(str(refused)) from refused
    pulumi.runtime.register_stack_transformation(bounded(config))
    LAYERS[config.layer](config)


if __name__ == "__main__":
    main()
