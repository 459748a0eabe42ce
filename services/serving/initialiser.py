"""`python -m services.serving.initialiser URI FOLDER`: what KServe starts before a predictor, as its storage initialiser.

Exit status: 0 the folder is complete; 1 the model is refused; 2 a wrong setting or argument; 75 try again (EX_TEMPFAIL). Why stands
on stderr in one line, which Kubernetes takes for the termination message and KServe for the model's failure.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from services.core.errors import AiInfraError, BadInput, BadSetting
from services.serving.predictor.bootstrap import run_initialiser
from services.serving.predictor.order import Order

MAX_MESSAGE = 1500
"""Characters: Kubernetes takes 2,048 bytes of a log for a message."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="services.serving.initialiser", description="Downloads and verifies one model.")
    parser.add_argument("uri", help="ai-infra://DEPLOYMENT/ARTIFACT/MANIFEST/BUNDLE")
    parser.add_argument("folder", type=Path, help="where the predictor finds it")
    options = parser.parse_args(arguments)
    try:
        order = run_initialiser(os.environ, options.uri, options.folder)
    except AiInfraError as error:
        return report(error)
    sys.stdout.write(f"{_summary(order)}\n")
    return 0


def report(error: AiInfraError) -> int:
    """Says why, and answers the exit status."""
    sys.stderr.write(" ".join(str(error).split())[:MAX_MESSAGE] + "\n")
    if error.retryable:
        return os.EX_TEMPFAIL
    return 2 if isinstance(error, BadInput | BadSetting) else 1


def _summary(order: Order) -> str:
    size = sum(entry.size for entry in order.files)
    return f"{order.model}@{order.number} is verified: deployment {order.deployment}, {len(order.files)} files, {size} bytes"


if __name__ == "__main__":
    sys.exit(main())
