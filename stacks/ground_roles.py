"""Roles of services in the cluster: each may reach its own part of the object store and its own databases, and nothing else.

The signing proxy's is in `ground_signing`, for its keys name it. Nobody here has a password: databases take IAM tokens.
"""

from dataclasses import dataclass
from typing import Any, Final

from pulumi import Output, ResourceOptions

from components.cluster import Cluster
from components.database import Database
from components.identity import Identity
from components.key_policy import UNSEAL
from stacks.config import GroundStack
from stacks.ground_cluster import identity_args
from stacks.ground_keys import Keys
from stacks.ground_stores import Stores
from stacks.namespaces import MONITORING, SERVICES, VAULT, models, training

STORE: Final = "artifacts"
OBJECTS: Final = "objects"
"""Prefix in the store, as AI_INFRA_OBJECTS of API and predictors names it: only the API writes there."""
OUTPUTS: Final = "outputs"
"""Prefix under which training jobs leave what they made, for the API to judge and to take over."""

READ: Final = ("s3:GetObject", "s3:GetObjectVersion")
WRITE: Final = ("s3:PutObject", "s3:PutObjectRetention")
TRACES: Final = ("xray:PutTelemetryRecords", "xray:PutTraceSegments")
"""They know no resource."""

Statement = dict[str, object]


@dataclass(frozen=True)
class Parts:
    """What the roles are for."""

    config: GroundStack
    cluster: Cluster
    keys: Keys
    stores: Stores
    database: Database
    topic_arn: Output[str]


def service_roles(parts: Parts, opts: ResourceOptions) -> dict[str, Output[str]]:
    """ARN by service account."""
    environment = parts.config.environment
    wanted = {
        "api": (
            SERVICES,
            [
                *_objects(parts, read=(OBJECTS, OUTPUTS), write=(OBJECTS,)),
                connect(parts.config, parts.database, "platform", "audit"),
            ],
        ),
        "predictor": (models(environment), _objects(parts, read=(OBJECTS,))),
        "training": (training(environment), _objects(parts, read=(OBJECTS, OUTPUTS), write=(OUTPUTS,))),
        "vault": (VAULT, [_allow("Unseal", UNSEAL, parts.keys.unseal)]),
        "alertmanager": (MONITORING, _publishes(parts)),
        "opentelemetry-collector": (MONITORING, [_allow("WriteTraces", TRACES, "*")]),
    }
    return {name: _role(parts, name, namespace, statements, opts) for name, (namespace, statements) in wanted.items()}


def connect(config: GroundStack, database: Database, *users: str) -> Statement:
    """As these users of PostgreSQL, each the owner of the database of its name."""
    prefix = f"arn:aws:rds-db:{config.region}:{config.account}:dbuser:"
    return _allow("Connect", ["rds-db:connect"], [Output.concat(prefix, database.resource_id, f"/{user}") for user in users])


def _role(parts: Parts, name: str, namespace: str, statements: list[Statement], opts: ResourceOptions) -> Output[str]:
    args = identity_args(
        parts.config, parts.cluster, namespace=namespace, account=name, statements=statements, wide=("WriteTraces",)
    )
    return Identity(name, args, opts).role_arn


def _objects(parts: Parts, *, read: tuple[str, ...], write: tuple[str, ...] = ()) -> list[Statement]:
    """Whoever may list can tell an object that is not there from one that he may not read."""
    bucket = parts.stores.buckets[STORE].bucket_arn
    within = {"StringLike": {"s3:prefix": [f"{prefix}/*" for prefix in read]}}
    through = {"StringEquals": {"kms:ViaService": f"s3.{parts.config.region}.amazonaws.com"}}
    uses = ["kms:Decrypt", "kms:GenerateDataKey"] if write else ["kms:Decrypt"]
    writing = [_allow("WriteObjects", WRITE, [Output.concat(bucket, f"/{prefix}/*") for prefix in write])] if write else []
    return [
        _allow("ReadObjects", READ, [Output.concat(bucket, f"/{prefix}/*") for prefix in read]),
        *writing,
        _allow("ListObjects", ("s3:ListBucket",), bucket, within),
        _allow("UseStoreKey", uses, parts.keys.stores[STORE], through),
    ]


def _publishes(parts: Parts) -> list[Statement]:
    through = {"StringEquals": {"kms:ViaService": f"sns.{parts.config.region}.amazonaws.com"}}
    return [
        _allow("Publish", ["sns:Publish"], parts.topic_arn),
        _allow("UseTopicKey", ["kms:Decrypt", "kms:GenerateDataKey"], parts.keys.alerts, through),
    ]


def _allow(sid: str, actions: Any, resource: Any, condition: dict[str, Any] | None = None) -> Statement:
    statement: Statement = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resource}
    return statement if condition is None else statement | {"Condition": condition}
