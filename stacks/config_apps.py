"""What users run: the images that CI built from Containerfile."""

from typing import Annotated

from pydantic import Field

from stacks.model import Model

Image = Annotated[str, Field(pattern=r"^[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}$")]
"""By digest: a tag can be moved to something that nobody has looked at."""


class AppsConfig(Model):
    """image: of all services; training_image: of Ray's pods, which KubeRay starts by a shell."""

    image: Image
    training_image: Image
