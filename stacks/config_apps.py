"""What users run: images that were built from Containerfile, and what our services are told about this environment."""

import re
from ipaddress import IPv4Network
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from components.apps.calls import WITNESS_PORT
from components.apps.signing_proxy import IN_VAULT
from stacks.floors import retention_days
from stacks.model import Model, Positive, Text


def _pinned(image: str) -> str:
    if not re.fullmatch(r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}", image):
        raise ValueError(
            f"{image} is not pinned: give REGISTRY/NAME@sha256:DIGEST; a tag can be moved to something that nobody has looked at"
        )
    return image


Image = Annotated[str, AfterValidator(_pinned)]
Https = Annotated[str, Field(pattern=r"^https://[a-z0-9.-]+(:\d+)?$")]


class Witnesses(Model):
    """urls: by verifier key, as NAME+ID+KEY, at the one port that the network lets the API call; blocks: CIDR, where they are."""

    urls: dict[Text, Https]
    blocks: Annotated[tuple[Text, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for block in self.blocks:
            if IPv4Network(block).prefixlen < 16:
                raise ValueError(f"witnesses.blocks: {block} is more than a witness needs: name /16 or smaller")
        if closed := [url for url in self.urls.values() if not url.endswith(f":{WITNESS_PORT}")]:
            raise ValueError(
                f"witnesses.urls: the network lets nobody call {closed[0]}: a witness is reached at port {WITNESS_PORT}"
            )
        if bool(self.urls) != bool(self.blocks):
            raise ValueError("witnesses: give both urls and blocks, or the network lets nobody reach them")
        return self


class AppsConfig(Model):
    """image: of all services; former_images: of predictors that started with them, and may start with them again; training_image:
    of Ray's pods, which KubeRay starts by a shell; opa_image: beside the API.

    retention_days: in which nobody deletes an object, as the ground's store of artifacts has it; queue, priority: of jobs that name
    none; vault_address: of Vault, for whoever deploys; key_versions: of the keys in Vault that sign.
    """

    image: Image
    former_images: Annotated[tuple[Image, ...], Field(strict=False)]
    training_image: Image
    opa_image: Image
    retention_days: Positive
    witnesses: Witnesses
    queue: Text
    priority: Text
    vault_address: Https
    key_versions: dict[str, Positive]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.key_versions.keys() != set(IN_VAULT):
            raise ValueError(f"key_versions: give one of each of {', '.join(IN_VAULT)}, and of nothing else")
        return self


def apps_faults(environment: str, apps: AppsConfig) -> list[str]:
    """What an environment may not go without."""
    floor = retention_days(environment)
    checks = {
        f"retention_days is {apps.retention_days}: {environment} keeps {floor} days or more": apps.retention_days >= floor,
        "witnesses must be named in prod: without any, a log that was cut off cannot be told from a whole one": (
            environment != "prod" or bool(apps.witnesses.urls)
        ),
    }
    return [fault for fault, met in checks.items() if not met]
