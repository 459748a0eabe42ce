"""What users run: the image of our services."""

from typing import Annotated

from pydantic import Field

from stacks.model import Model

Image = Annotated[str, Field(pattern=r"^[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}$")]
"""By digest: a tag can be moved to something that nobody has looked at."""


class AppsConfig(Model):
    """image: of all services."""

    image: Image
