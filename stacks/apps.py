"""What users run, joined from components. Deployed from within the network: its API is private."""

from stacks.cluster import cluster_provider, reference
from stacks.config import AppsStack
from stacks.outputs import GroundOutputs, PlatformOutputs


def apps(config: AppsStack) -> None:
    ground = GroundOutputs.of(reference(config, "ground"))
    PlatformOutputs.of(reference(config, "platform"))
    cluster_provider(config, ground)
