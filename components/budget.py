"""What an environment may cost: a monthly budget; where bills are paid, a watch for anomalies and the tags that tell costs apart.

It stops nothing: a budget tells, it does not cut off. It counts nothing before the tag of the environment is active.
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

EMPTY: Final = ("And", "CostCategories", "Dimensions", "Not", "Or")
"""Keys of a specification that are null: the provider reads it back whole, and would replace the monitor if one were missing."""


@dataclass(frozen=True, kw_only=True)
class BudgetArgs:
    """monthly_usd: of everything with this environment's tag; anomaly_usd: extra cost of an anomaly worth a message.

    payer: the account pays its own bill, and its resources have had the tags for a day. AWS lets no member of an organisation
    activate tags or watch one for anomalies, and knows no tag sooner.
    """

    environment: str
    monthly_usd: int
    anomaly_usd: int
    payer: bool
    topic_arn: Input[str]

    def __post_init__(self) -> None:
        if self.monthly_usd < 1 or self.anomaly_usd < 1:
            raise ValueError(f"monthly_usd and anomaly_usd must be 1 or more, got {self.monthly_usd} and {self.anomaly_usd}")


class Budget(pulumi.ComponentResource):
    """Tells the topic."""

    def __init__(self, name: str, args: BudgetArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:watch:Budget", name, None, opts)
        self._args, self._name = args, name
        self._child = ResourceOptions(parent=self)
        self._physical = f"ai-infra-{args.environment}-{name}"
        self._budget()
        if args.payer:
            self._anomalies()
        self.register_outputs({})

    def _budget(self) -> None:
        args = self._args
        budgets.Budget(
            self._name,
            name=self._physical,
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
            opts=self._child,
        )

    def _anomalies(self) -> None:
        """The watch is of the environment's tag, so the tags come first."""
        name, args = self._name, self._args
        tags = [costexplorer.CostAllocationTag(f"{name}-{tag}", tag_key=tag, status="Active", opts=self._child) for tag in TAGS]
        watched = dict.fromkeys(EMPTY) | {"Tags": {"Key": "environment", "Values": [args.environment], "MatchOptions": None}}
        monitor = costexplorer.AnomalyMonitor(
            name,
            name=self._physical,
            monitor_type="CUSTOM",
            monitor_specification=json.dumps(watched),
            opts=ResourceOptions(parent=self, depends_on=tags),
        )
        costexplorer.AnomalySubscription(
            name,
            name=self._physical,
            frequency="IMMEDIATE",
            monitor_arn_lists=[monitor.arn],
            subscribers=[costexplorer.AnomalySubscriptionSubscriberArgs(type="SNS", address=args.topic_arn)],
            threshold_expression=costexplorer.AnomalySubscriptionThresholdExpressionArgs(
                dimension=costexplorer.AnomalySubscriptionThresholdExpressionDimensionArgs(
                    key="ANOMALY_TOTAL_IMPACT_ABSOLUTE", match_options=["GREATER_THAN_OR_EQUAL"], values=[str(args.anomaly_usd)]
                )
            ),
            opts=self._child,
        )
