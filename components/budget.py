"""What an environment may cost: a monthly budget, a watch for anomalies, and the tags that costs are told apart by.

Cost-allocation tags are of the whole account, and become visible in Cost Explorer a day after their first use. It stops nothing:
a budget tells, it does not cut off.
"""

import json
from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_aws import budgets, costexplorer

TAGS: Final = ("cost_centre", "environment", "team")
THRESHOLDS: Final = {"ACTUAL": (50, 80, 100), "FORECASTED": (100,)}
"""Percent of the budget at which it tells."""


@dataclass(frozen=True, kw_only=True)
class BudgetArgs:
    """monthly_usd: of everything with this environment's tag; anomaly_usd: extra cost of an anomaly worth a message."""

    environment: str
    monthly_usd: int
    anomaly_usd: int
    topic_arn: Input[str]

    def __post_init__(self) -> None:
        if self.monthly_usd < 1 or self.anomaly_usd < 1:
            raise ValueError(f"monthly_usd and anomaly_usd must be 1 or more, got {self.monthly_usd} and {self.anomaly_usd}")


class Budget(pulumi.ComponentResource):
    """Tells the topic. The anomaly watch wants the environment's tag to be active."""

    def __init__(self, name: str, args: BudgetArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:watch:Budget", name, None, opts)
        child = ResourceOptions(parent=self)
        physical = f"ai-infra-{args.environment}-{name}"
        tags = [costexplorer.CostAllocationTag(f"{name}-{tag}", tag_key=tag, status="Active", opts=child) for tag in TAGS]
        after_tags = ResourceOptions(parent=self, depends_on=tags)
        budgets.Budget(
            name,
            name=physical,
            budget_type="COST",
            time_unit="MONTHLY",
            limit_amount=str(args.monthly_usd),
            limit_unit="USD",
            cost_filters=[budgets.BudgetCostFilterArgs(name="TagKeyValue", values=[f"user:environment${args.environment}"])],
            notifications=[
                budgets.BudgetNotificationArgs(
                    notification_type=kind,
                    comparison_operator="GREATER_THAN",
                    threshold=percent,
                    threshold_type="PERCENTAGE",
                    subscriber_sns_topic_arns=[args.topic_arn],
                )
                for kind, percents in THRESHOLDS.items()
                for percent in percents
            ],
            opts=after_tags,
        )
        watched = {"Tags": {"Key": "environment", "Values": [args.environment], "MatchOptions": ["EQUALS"]}}
        monitor = costexplorer.AnomalyMonitor(
            name, name=physical, monitor_type="CUSTOM", monitor_specification=json.dumps(watched), opts=after_tags
        )
        costexplorer.AnomalySubscription(
            name,
            name=physical,
            frequency="IMMEDIATE",
            monitor_arn_lists=[monitor.arn],
            subscribers=[costexplorer.AnomalySubscriptionSubscriberArgs(type="SNS", address=args.topic_arn)],
            threshold_expression=costexplorer.AnomalySubscriptionThresholdExpressionArgs(
                dimension=costexplorer.AnomalySubscriptionThresholdExpressionDimensionArgs(
                    key="ANOMALY_TOTAL_IMPACT_ABSOLUTE", match_options=["GREATER_THAN_OR_EQUAL"], values=[str(args.anomaly_usd)]
                )
            ),
            opts=child,
        )
        self.register_outputs({})
