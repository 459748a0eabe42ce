"""Network policies of our namespaces: nothing in, nothing out, but for the calls of the table in `calls`."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi import ResourceOptions
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs
from pulumi_kubernetes.networking.v1 import (
    IPBlockArgs,
    NetworkPolicy,
    NetworkPolicyEgressRuleArgs,
    NetworkPolicyIngressRuleArgs,
    NetworkPolicyPeerArgs,
    NetworkPolicyPortArgs,
    NetworkPolicySpecArgs,
)

from components.apps.calls import OURS, Call, Party, Places, Pods, calls_of, calls_to

BOTH = ["Ingress", "Egress"]
NAMESPACE = "kubernetes.io/metadata.name"
"""The API server itself puts this label on each namespace."""


@dataclass(frozen=True, kw_only=True)
class NetworkPoliciesArgs:
    places: Places


class NetworkPolicies(pulumi.ComponentResource):
    """One default for each namespace, and one policy for each party of ours with both sides of its calls."""

    def __init__(self, name: str, args: NetworkPoliciesArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:apps:NetworkPolicies", name, None, opts)
        self._places, self._child = args.places, ResourceOptions(parent=self)
        for namespace in args.places.ours:
            closed = NetworkPolicySpecArgs(pod_selector=LabelSelectorArgs(), policy_types=BOTH)
            self._policy(f"{namespace}-default-deny", namespace, "default-deny", closed)
        for party in OURS:
            self._calls(party)
        self.register_outputs({})

    def _calls(self, party: str) -> None:
        place, of = self._places.of(party), self._places.of
        assert isinstance(place, Pods)
        taken = [(call, _peers(of(call.caller))) for call in calls_to(party)]
        made = [(call, _peers(of(call.callee))) for call in calls_of(party)]
        spec = NetworkPolicySpecArgs(
            pod_selector=_selector(place),
            policy_types=BOTH,
            # A rule without peers would let everybody in, or out to everywhere.
            ingress=[NetworkPolicyIngressRuleArgs(from_=peers, ports=_ports(call)) for call, peers in taken if peers],
            egress=[NetworkPolicyEgressRuleArgs(to=peers, ports=_ports(call)) for call, peers in made if peers],
        )
        self._policy(f"{party}-calls", place.namespace, party, spec)

    def _policy(self, logical: str, namespace: str, name: str, spec: NetworkPolicySpecArgs) -> None:
        metadata = ObjectMetaArgs(name=name, namespace=namespace)
        NetworkPolicy(logical, metadata=metadata, spec=spec, opts=self._child)


def _selector(pods: Pods) -> LabelSelectorArgs:
    return LabelSelectorArgs(match_labels=dict(pods.labels)) if pods.labels else LabelSelectorArgs()


def _peers(party: Party) -> list[NetworkPolicyPeerArgs]:
    if isinstance(party, Pods):
        namespace = LabelSelectorArgs(match_labels={NAMESPACE: party.namespace})
        return [NetworkPolicyPeerArgs(namespace_selector=namespace, pod_selector=_selector(party))]
    but = list(party.but) or None
    return [NetworkPolicyPeerArgs(ip_block=IPBlockArgs(cidr=block, except_=but)) for block in party.blocks]


def _ports(call: Call) -> Sequence[NetworkPolicyPortArgs] | None:
    ports = [("TCP", port) for port in call.tcp] + [("UDP", port) for port in call.udp]
    return [NetworkPolicyPortArgs(protocol=protocol, port=port) for protocol, port in ports] or None
