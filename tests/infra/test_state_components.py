"""Database, backups, trail, alerts and budget: what a component makes of its arguments."""

from dataclasses import replace
from typing import Any

import pytest

from components.alerts import Alerts, AlertsArgs
from components.backup import Backup, BackupArgs
from components.backup_vault import BackupVault, BackupVaultArgs
from components.budget import Budget, BudgetArgs
from components.database import Database, DatabaseArgs
from components.trail import ALARMS, Trail, TrailArgs
from tests.infra.recorded import Graph, changed, recorded

ACCOUNT = "111122223333"
DATABASE = DatabaseArgs(
    environment="dev",
    account=ACCOUNT,
    vpc_id="vpc-1",
    subnet_ids=["a", "b"],
    client_security_group_id="sg-nodes",
    storage_key_arn="arn:storage",
    secret_key_arn="arn:secret",
    logs_key_arn="arn:logs",
    log_days=30,
    version="17",
    instance_class="db.t4g.medium",
    storage_gib=20,
    max_storage_gib=100,
    backup_days=1,
    lasting=False,
    tags={"backup": "daily"},
)
BACKUP = BackupArgs(
    environment="dev",
    account=ACCOUNT,
    vault_name="vault",
    daily_days=35,
    monthly_days=365,
    lock_days=None,
    replica_vault_arn=None,
    topic_arn="arn:topic",
)
TRAIL = TrailArgs(
    environment="dev",
    account=ACCOUNT,
    bucket_name="logs",
    data_bucket_arns={"audit": "arn:aws:s3:::audit", "artifacts": "arn:aws:s3:::art"},
    key_arn="arn:key",
    log_days=30,
    topic_arn="arn:topic",
)
BUDGET = BudgetArgs(environment="dev", monthly_usd=500, anomaly_usd=50, payer=False, topic_arn="arn:topic")


def database(args: DatabaseArgs = DATABASE) -> Graph:
    return recorded(lambda: Database("database", args))


def test_database_is_encrypted_private_and_its_password_is_in_no_program() -> None:
    instance = database()["Instance", "database"].inputs
    wanted = {
        "storageEncrypted": True,
        "kmsKeyId": "arn:storage",
        "performanceInsightsKmsKeyId": "arn:storage",
        "publiclyAccessible": False,
        "manageMasterUserPassword": True,
        "masterUserSecretKmsKeyId": "arn:secret",
        "iamDatabaseAuthenticationEnabled": True,
        "monitoringInterval": 60,
        "backupRetentionPeriod": 1,
    }
    assert wanted.items() <= instance.items()
    assert "password" not in instance


def test_database_wants_tls() -> None:
    group = database()["ParameterGroup", "database"].inputs
    assert group["family"] == "postgres17"
    assert {item["name"]: item["value"] for item in group["parameters"]}["rds.force_ssl"] == "1"


def test_only_the_nodes_reach_the_database_and_only_its_port() -> None:
    rules = [item.inputs for item in database().values() if item.type == "SecurityGroupIngressRule"]
    assert [(rule["referencedSecurityGroupId"], rule["fromPort"], rule["toPort"]) for rule in rules] == [("sg-nodes", 5432, 5432)]


def test_logs_of_the_database_are_encrypted_groups_that_are_there_first() -> None:
    made = database()
    groups = {item.name: item.inputs for item in made.values() if item.type == "LogGroup"}
    assert {item["name"] for item in groups.values()} == {
        f"/aws/rds/instance/ai-infra-dev/{log}" for log in ("postgresql", "upgrade")
    }
    assert {item["kmsKeyId"] for item in groups.values()} == {"arn:logs"}
    assert groups.keys() <= made["Instance", "database"].depends


def test_lasting_database_has_two_zones_and_is_not_deleted_by_one_call() -> None:
    made = database(replace(DATABASE, environment="prod", lasting=True, backup_days=35))["Instance", "database"]
    wanted = {
        "multiAz": True,
        "deletionProtection": True,
        "skipFinalSnapshot": False,
        "finalSnapshotIdentifier": "ai-infra-prod-final",
        "deleteAutomatedBackups": False,
        "backupRetentionPeriod": 35,
    }
    assert wanted.items() <= made.inputs.items()
    assert made.protect


@pytest.mark.parametrize(
    ("changes", "only"),
    [
        ({"instance_class": "db.m7g.large"}, {("Instance", "database")}),
        ({"backup_days": 14}, {("Instance", "database")}),
        ({"log_days": 90}, {("LogGroup", "database-postgresql"), ("LogGroup", "database-upgrade")}),
        ({"version": "18"}, {("Instance", "database"), ("ParameterGroup", "database")}),
        ({"lasting": True}, {("Instance", "database")}),
    ],
)
def test_one_knob_of_the_database_turns_what_it_should(changes: dict[str, Any], only: set[tuple[str, str]]) -> None:
    assert changed(database(), database(replace(DATABASE, **changes))) == only


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"backup_days": 0}, "point-in-time"), ({"environment": "prod"}, "must be lasting"), ({"subnet_ids": ["a"]}, "two zones")],
)
def test_database_that_could_be_lost_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DATABASE, **changes)


def test_locked_vault_is_in_compliance_mode_and_protected() -> None:
    made = recorded(lambda: BackupVault("vault", BackupVaultArgs(environment="prod", key_arn="arn:key", lock_days=35)))
    assert made["Vault", "vault"].inputs["kmsKeyArn"] == "arn:key"
    assert made["VaultLockConfiguration", "vault"].inputs == {
        "backupVaultName": "ai-infra-prod-vault",
        "minRetentionDays": 35,
        "changeableForDays": 3,
    }
    assert all(item.protect for item in made.values())


@pytest.mark.parametrize(("environment", "lock_days", "goes"), [("dev", None, True), ("dev", 7, False), ("staging", None, False)])
def test_vault_goes_with_its_backups_in_dev_alone(environment: str, lock_days: int | None, goes: bool) -> None:
    args = BackupVaultArgs(environment=environment, key_arn="arn:key", lock_days=lock_days)
    assert recorded(lambda: BackupVault("vault", args))["Vault", "vault"].inputs["forceDestroy"] is goes


def test_vault_without_a_lock_is_not_for_prod() -> None:
    assert set(recorded(lambda: BackupVault("vault", BackupVaultArgs(environment="dev", key_arn="k", lock_days=None)))) == {
        ("Vault", "vault")
    }
    with pytest.raises(ValueError, match="must be locked"):
        BackupVaultArgs(environment="prod", key_arn="k", lock_days=None)


def test_backups_are_daily_and_monthly_of_what_is_tagged() -> None:
    made = recorded(lambda: Backup("backup", BACKUP))
    rules = {rule["ruleName"]: rule for rule in made["Plan", "backup"].inputs["rules"]}
    assert {name: rule["lifecycle"]["deleteAfter"] for name, rule in rules.items()} == {"daily": 35, "monthly": 365}
    assert all("copyActions" not in rule for rule in rules.values())
    selection = made["Selection", "backup"]
    assert selection.inputs["selectionTags"] == [{"type": "STRINGEQUALS", "key": "backup", "value": "daily"}]
    assert {"backup-backups", "backup-restores"} <= selection.depends


def test_backup_that_was_not_made_tells_the_topic() -> None:
    made = recorded(lambda: Backup("backup", BACKUP))
    alarms = [item.inputs for item in made.values() if item.type == "MetricAlarm"]
    metrics = {f"NumberOf{what}" for what in ("BackupJobsFailed", "BackupJobsExpired", "BackupJobsAborted", "CopyJobsFailed")}
    assert {alarm["metricName"] for alarm in alarms} == metrics
    for alarm in alarms:
        assert (alarm["namespace"], alarm["dimensions"]) == ("AWS/Backup", {"BackupVaultName": "vault"})
        assert alarm["alarmActions"] == ["arn:topic"]


def test_no_backup_starts_within_an_hour_of_the_databases_maintenance() -> None:
    """AWS Backup lets none start then, and the database's own window may not meet it either."""
    window = database()["Instance", "database"].inputs["maintenanceWindow"]
    begins, ends = (int(text[4:6]) * 60 + int(text[7:9]) for text in window.split("-"))
    for rule in recorded(lambda: Backup("backup", BACKUP))["Plan", "backup"].inputs["rules"]:
        minute, hour = rule["schedule"].removeprefix("cron(").split()[:2]
        start = int(hour) * 60 + int(minute)
        assert start + rule["startWindow"] <= begins - 60 or start >= ends


def test_replica_gets_a_copy_that_is_kept_as_long() -> None:
    plain = recorded(lambda: Backup("backup", BACKUP))
    made = recorded(lambda: Backup("backup", replace(BACKUP, replica_vault_arn="arn:replica")))
    for rule in made["Plan", "backup"].inputs["rules"]:
        assert rule["copyActions"] == [{"destinationVaultArn": "arn:replica", "lifecycle": rule["lifecycle"]}]
    assert changed(plain, made) == {("Plan", "backup")}


def test_backup_that_a_locked_vault_would_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="would take no backup"):
        replace(BACKUP, lock_days=36)


def test_trail_is_of_all_regions_encrypted_and_can_be_validated() -> None:
    trail = recorded(lambda: Trail("trail", TRAIL))["Trail", "trail"].inputs
    wanted = {"isMultiRegionTrail": True, "enableLogFileValidation": True, "enableLogging": True, "kmsKeyId": "arn:key"}
    assert wanted.items() <= trail.items()


def test_role_that_writes_the_trails_events_is_taken_without_a_condition_which_cloudtrail_could_not_meet() -> None:
    (statement,) = recorded(lambda: Trail("trail", TRAIL))["Role", "trail-logs"].document("assumeRolePolicy")["Statement"]
    assert statement["Principal"] == {"Service": "cloudtrail.amazonaws.com"}
    assert "Condition" not in statement


def test_trail_records_reads_of_artifacts_and_of_the_audit_log() -> None:
    trail = recorded(lambda: Trail("trail", TRAIL))["Trail", "trail"].inputs
    fields = {item["name"]: {one["field"]: one for one in item["fieldSelectors"]} for item in trail["advancedEventSelectors"]}
    assert fields["management"]["eventCategory"]["equals"] == ["Management"]
    assert fields["objects"]["resources.ARN"]["startsWiths"] == ["arn:aws:s3:::art/", "arn:aws:s3:::audit/"]


def test_each_alarm_counts_its_filter_and_tells_the_topic() -> None:
    made = recorded(lambda: Trail("trail", TRAIL))
    for what in ALARMS:
        alarm = made["MetricAlarm", f"trail-{what}"].inputs
        metric = made["LogMetricFilter", f"trail-{what}"].inputs["metricTransformation"]
        assert (alarm["namespace"], alarm["metricName"]) == (metric["namespace"], metric["name"])
        assert alarm["alarmActions"] == ["arn:topic"]
    keys = made["LogMetricFilter", "trail-keys"].inputs["pattern"]
    assert all(event in keys for event in ("DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy"))


def test_topic_is_encrypted_and_heard_by_people_and_written_by_services_of_this_account() -> None:
    args = AlertsArgs(environment="dev", account=ACCOUNT, key_arn="arn:key", emails=["ops@example.com"])
    made = recorded(lambda: Alerts("alerts", args))
    assert made["Topic", "alerts"].inputs["kmsMasterKeyId"] == "arn:key"
    assert made["TopicSubscription", "alerts-ops-at-example-com"].inputs["endpoint"] == "ops@example.com"
    allowed = [item for item in made["TopicPolicy", "alerts"].statements().values() if item["Effect"] == "Allow"]
    assert allowed
    assert all(item["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}} for item in allowed)


def test_budget_is_of_the_environments_tag_and_waits_for_nothing() -> None:
    made = recorded(lambda: Budget("budget", BUDGET))
    budget = made["Budget", "budget"]
    assert (budget.inputs["limitAmount"], budget.inputs["timeUnit"]) == ("500", "MONTHLY")
    assert budget.inputs["costFilters"] == [{"name": "TagKeyValue", "values": ["user:environment$dev"]}]
    assert all(item["subscriberSnsTopicArns"] == ["arn:topic"] for item in budget.inputs["notifications"])
    assert made.keys() == {("Budget", "budget")}


def test_account_that_pays_activates_the_tags_and_then_watches_one() -> None:
    made = recorded(lambda: Budget("budget", replace(BUDGET, payer=True)))
    tags = {item.name: item.inputs["tagKey"] for item in made.values() if item.type == "CostAllocationTag"}
    assert set(tags.values()) == {"team", "environment", "cost_centre"}
    assert tags.keys() <= made["AnomalyMonitor", "budget"].depends
    assert not tags.keys() & made["Budget", "budget"].depends


def test_specification_of_the_watch_has_every_key_that_the_provider_reads_back() -> None:
    made = recorded(lambda: Budget("budget", replace(BUDGET, payer=True)))
    assert made["AnomalyMonitor", "budget"].document("monitorSpecification") == {
        "And": None,
        "CostCategories": None,
        "Dimensions": None,
        "Not": None,
        "Or": None,
        "Tags": {"Key": "environment", "MatchOptions": None, "Values": ["dev"]},
    }
