"""The network's part of an environment's configuration."""

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator

from stacks.config_cluster import LogDays
from stacks.model import Model

PRIVATE = [ipaddress.IPv4Network(block) for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
TAKEN = {"10.100.0.0/16": "services of EKS", "172.20.0.0/16": "services of EKS", "172.17.0.0/16": "containers on a node"}
"""Block → what would answer there instead of the network."""


def _cidr(text: str) -> str:
    try:
        block = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ValueError(f"{text} is no IPv4 block: {error}") from error
    if not any(block.subnet_of(private) for private in PRIVATE):
        raise ValueError(f"{text} is not private: take a block of {', '.join(map(str, PRIVATE))}")
    if not 16 <= block.prefixlen <= 18:
        raise ValueError(f"{text} must be /16 to /18: AWS takes none larger, and pods take an address each")
    for other, whose in TAKEN.items():
        if block.overlaps(ipaddress.IPv4Network(other)):
            raise ValueError(f"{text} overlaps {other}, which is for {whose}: take another block")
    return text


class NetworkConfig(Model):
    """nat: one gateway for all zones, or one for each, and interface endpoints alike; flow_log_days: how long they are kept."""

    cidr: Annotated[str, AfterValidator(_cidr)]
    nat: Literal["one", "per-zone"]
    flow_log_days: LogDays
