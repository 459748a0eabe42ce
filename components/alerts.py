"""The topic on which an environment's alarms and budget speak, and who hears it.

Not here: the alarms. The key must let the publishing services use it: a topic of an AWS-managed key would be deaf to them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import sns

PUBLISHERS: Final = {
    "Alarms": "cloudwatch.amazonaws.com",
    "Budgets": "budgets.amazonaws.com",
    "CostAnomalies": "costalerts.amazonaws.com",
}


@dataclass(frozen=True, kw_only=True)
class AlertsArgs:
    """emails: each has to confirm its subscription once."""

    environment: str
    account: str
    key_arn: Input[str]
    emails: Sequence[str]

    def __post_init__(self) -> None:
        if not self.emails:
            raise ValueError("emails is empty: nobody would hear an alarm")


class Alerts(pulumi.ComponentResource):
    """One encrypted topic. Only services of AWS publish, for this account, over TLS."""

    topic_arn: Output[str]

    def __init__(self, name: str, args: AlertsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:watch:Alerts", name, None, opts)
        child = ResourceOptions(parent=self)
        topic = sns.Topic(name, name=f"ai-infra-{args.environment}-{name}", kms_master_key_id=args.key_arn, opts=child)
        policy = sns.TopicPolicy(name, arn=topic.arn, policy=Output.json_dumps(_policy(topic.arn, args.account)), opts=child)
        for email in args.emails:
            who = email.replace("@", "-at-").replace(".", "-")
            sns.TopicSubscription(f"{name}-{who}", topic=topic.arn, protocol="email", endpoint=email, opts=child)
        # Whoever takes the ARN from here publishes only after the policy lets it.
        self.topic_arn = policy.arn
        self.register_outputs({"topic_arn": self.topic_arn})


def _policy(topic_arn: Input[str], account: str) -> dict[str, Any]:
    publish: list[dict[str, Any]] = [
        {
            "Sid": sid,
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sns:Publish",
            "Resource": topic_arn,
            "Condition": {"StringEquals": {"aws:SourceAccount": account}},
        }
        for sid, service in PUBLISHERS.items()
    ]
    plain = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sns:Publish",
        "Resource": topic_arn,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [*publish, plain]}
