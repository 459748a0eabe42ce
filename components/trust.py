"""Trust policies: who may take a role. Plain documents; nothing is made here."""

import json


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
