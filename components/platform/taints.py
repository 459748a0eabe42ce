"""Taints and labels of nodes, as the managed GPU pools of the ground have them."""

from typing import Final

GPU: Final = {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}
SPOT: Final = {"key": "ai-infra/spot", "value": "true", "effect": "NoSchedule"}
HAS_GPU: Final = {"nvidia.com/gpu.present": "true"}
CAPACITY: Final = "ai-infra/capacity"
"""Label: on-demand or spot."""
