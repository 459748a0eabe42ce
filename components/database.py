"""PostgreSQL on RDS, for the platform's state. RDS keeps the master password in Secrets Manager; this program never sees one.

Not here: the databases and users inside it, and backups beyond point-in-time recovery (`backup`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import cloudwatch, ec2, iam, rds

from components.client_group import Reached, client_group
from components.log_group import log_group
from components.trust import service_trust

LOGS: Final = ("postgresql", "upgrade")
PARAMETERS: Final = {"rds.force_ssl": "1", "log_connections": "1", "log_disconnections": "1", "log_statement": "ddl"}
MONITORING: Final = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"


@dataclass(frozen=True, kw_only=True)
class DatabaseArgs:
    """version: of PostgreSQL, major: RDS upgrades minor ones; storage_gib and max_storage_gib: grows between them by itself.

    backup_days: how far back a point in time can be restored, 1 to 35; client_security_group_id: the only ones that connect;
    lasting: two zones, no deletion by one call, and a last snapshot.
    """

    environment: str
    account: str
    vpc_id: Input[str]
    subnet_ids: Sequence[Input[str]]
    client_security_group_id: Input[str]
    storage_key_arn: Input[str]
    secret_key_arn: Input[str]
    logs_key_arn: Input[str]
    log_days: int
    version: str
    instance_class: str
    storage_gib: int
    max_storage_gib: int
    backup_days: int
    lasting: bool
    tags: Mapping[str, str]

    def __post_init__(self) -> None:
        if not 1 <= self.backup_days <= 35:
            raise ValueError(f"backup_days must be 1 to 35, got {self.backup_days}: 0 turns point-in-time recovery off")
        if self.environment == "prod" and not self.lasting:
            raise ValueError("the database of prod must be lasting: two zones, deletion protection, a last snapshot")
        if len(self.subnet_ids) < 2:
            raise ValueError(f"subnet_ids must be of two zones or more, got {len(self.subnet_ids)}")


class Database(pulumi.ComponentResource):
    """One instance that takes TLS connections from the nodes, and IAM tokens for passwords."""

    endpoint: Output[str]
    arn: Output[str]
    resource_id: Output[str]
    """As rds-db:connect names it."""
    secret_arn: Output[str]
    """Of the master password, which RDS changes every week."""

    def __init__(self, name: str, args: DatabaseArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:state:Database", name, None, opts)
        self._args, self._name = args, name
        self._child = ResourceOptions(parent=self)
        self._physical = f"ai-infra-{args.environment}"
        instance = self._instance()
        self.endpoint = instance.endpoint
        self.arn = instance.arn
        self.resource_id = instance.resource_id
        self.secret_arn = instance.master_user_secrets[0].secret_arn
        self.register_outputs({"endpoint": self.endpoint})

    def _instance(self) -> rds.Instance:
        args = self._args
        return rds.Instance(
            self._name,
            identifier=self._physical,
            engine="postgres",
            engine_version=args.version,
            instance_class=args.instance_class,
            allocated_storage=args.storage_gib,
            max_allocated_storage=args.max_storage_gib,
            storage_type="gp3",
            storage_encrypted=True,
            ca_cert_identifier="rds-ca-rsa2048-g1",
            kms_key_id=args.storage_key_arn,
            db_name="ai_infra",
            username="ai_infra_admin",
            manage_master_user_password=True,
            master_user_secret_kms_key_id=args.secret_key_arn,
            iam_database_authentication_enabled=True,
            db_subnet_group_name=self._subnets().name,
            vpc_security_group_ids=[self._security_group().id],
            publicly_accessible=False,
            parameter_group_name=self._parameters().name,
            multi_az=args.lasting,
            backup_retention_period=args.backup_days,
            backup_window="01:00-02:00",
            # AWS Backup starts none in it, nor in the hour before; the plan's start at 03:00 and 04:00 (`backup`).
            maintenance_window="sun:06:30-sun:07:30",
            copy_tags_to_snapshot=True,
            delete_automated_backups=not args.lasting,
            deletion_protection=args.lasting,
            skip_final_snapshot=not args.lasting,
            final_snapshot_identifier=f"{self._physical}-final" if args.lasting else None,
            auto_minor_version_upgrade=True,
            performance_insights_enabled=True,
            performance_insights_kms_key_id=args.storage_key_arn,
            performance_insights_retention_period=7,
            monitoring_interval=60,
            monitoring_role_arn=self._monitoring().arn,
            enabled_cloudwatch_logs_exports=list(LOGS),
            tags=dict(args.tags),
            opts=ResourceOptions(parent=self, depends_on=self._logs(), protect=args.lasting),
        )

    def _subnets(self) -> rds.SubnetGroup:
        return rds.SubnetGroup(
            self._name,
            name=self._physical,
            description="Private subnets of the database",
            subnet_ids=list(self._args.subnet_ids),
            opts=self._child,
        )

    def _parameters(self) -> rds.ParameterGroup:
        return rds.ParameterGroup(
            self._name,
            name=f"{self._physical}-postgres{self._args.version}",
            family=f"postgres{self._args.version}",
            description="TLS only; connections and changes of the schema are logged",
            parameters=[rds.ParameterGroupParameterArgs(name=key, value=value) for key, value in PARAMETERS.items()],
            opts=self._child,
        )

    def _logs(self) -> list[cloudwatch.LogGroup]:
        args, group = self._args, f"/aws/rds/instance/{self._physical}"
        return [
            log_group(f"{self._name}-{log}", f"{group}/{log}", args.logs_key_arn, args.log_days, args.environment, self)
            for log in LOGS
        ]

    def _monitoring(self) -> iam.Role:
        trust = service_trust("monitoring.rds.amazonaws.com", self._args.account)
        role = iam.Role(
            f"{self._name}-monitoring", name=f"{self._physical}-rds-monitoring", assume_role_policy=trust, opts=self._child
        )
        iam.RolePolicyAttachment(f"{self._name}-monitoring", role=role.name, policy_arn=MONITORING, opts=self._child)
        return role

    def _security_group(self) -> ec2.SecurityGroup:
        args = Reached(
            vpc_id=self._args.vpc_id,
            client_security_group_id=self._args.client_security_group_id,
            port=5432,
            protocol="PostgreSQL",
        )
        return client_group(self._name, f"{self._physical}-database", args, self._child)
