"""Trust policies: who may take a role, and how a service account names its role. Plain documents; nothing is made here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pulumi import Input, Output

TAG = "aws:RequestTag"


@dataclass(frozen=True, kw_only=True)
class ClusterTrust:
    """The cluster whose pods take roles. oidc_issuer: without https://."""

    cluster_arn: Input[str]
    oidc_provider_arn: Input[str]
    oidc_issuer: Input[str]


def service_trust(service: str, account: str | None = None) -> str:
    """JSON of a trust policy for one AWS service.

    account: when given, the service may take the role for things of this account only. EC2 does not say for whom it asks, nor does
    CloudTrail when it writes to a log group.
    """
    statement = {"Sid": "Service", "Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    if account is None:
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    condition = {"StringEquals": {"aws:SourceAccount": account}}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement | {"Condition": condition}]})


def pod_trust(cluster: ClusterTrust, namespace: str, account: str) -> Output[str]:
    """JSON of a trust policy for the pods of one service account, by EKS Pod Identity and by IRSA: each tells who asks."""

    def document(values: Mapping[str, str]) -> dict[str, Any]:
        asks = {
            f"{TAG}/eks-cluster-arn": values["cluster"],
            f"{TAG}/kubernetes-namespace": namespace,
            f"{TAG}/kubernetes-service-account": account,
        }
        token = {
            f"{values['issuer']}:aud": "sts.amazonaws.com",
            f"{values['issuer']}:sub": f"system:serviceaccount:{namespace}:{account}",
        }
        pod_identity = {
            "Sid": "PodIdentity",
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": {"StringEquals": asks},
        }
        irsa = {
            "Sid": "Irsa",
            "Effect": "Allow",
            "Principal": {"Federated": values["provider"]},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": token},
        }
        return {"Version": "2012-10-17", "Statement": [pod_identity, irsa]}

    values = Output.all(cluster=cluster.cluster_arn, issuer=cluster.oidc_issuer, provider=cluster.oidc_provider_arn)
    return Output.json_dumps(values.apply(document))


def role_name(environment: str, name: str) -> str:
    """Of a workload's role."""
    return f"ai-infra-{environment}-{name}"


def takes(role_arn: Input[str]) -> dict[str, Input[str]]:
    """Annotations of a service account whose pods take a role by IRSA. EKS heeds them where no association of Pod Identity is."""
    return {"eks.amazonaws.com/role-arn": role_arn}
