"""An alarm on what should never happen. Not here: the topic that hears of it (`alerts`)."""

from collections.abc import Mapping

from pulumi import Input, ResourceOptions
from pulumi_aws import cloudwatch


def alarm(
    name: str,
    physical: str,
    says: str,
    namespace: str,
    metric: str,
    topic_arn: Input[str],
    opts: ResourceOptions,
    dimensions: Mapping[str, Input[str]] | None = None,
) -> None:
    """Tells the topic within minutes of the first time; where nothing was counted, nothing happened."""
    cloudwatch.MetricAlarm(
        name,
        name=physical,
        alarm_description=says,
        namespace=namespace,
        metric_name=metric,
        dimensions=dimensions,
        statistic="Sum",
        period=300,
        evaluation_periods=1,
        threshold=1,
        comparison_operator="GreaterThanOrEqualToThreshold",
        treat_missing_data="notBreaching",
        alarm_actions=[topic_arn],
        opts=opts,
    )
