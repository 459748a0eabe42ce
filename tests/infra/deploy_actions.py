"""What making, changing and ending each type of resource asks of IAM: reviewed by hand, from AWS's service authorization reference.

Not every call of the provider: those without which a resource cannot come, be told apart, or go.
"""

from collections.abc import Mapping
from typing import Final


def _calls(service: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{service}:{name}" for name in names)


def _named(service: str, *verbs: str, thing: str) -> tuple[str, ...]:
    return tuple(f"{service}:{verb}{thing}" for verb in verbs)


ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "aws:backup/plan:Plan": _calls("backup", "CreateBackupPlan", "GetBackupPlan", "UpdateBackupPlan", "DeleteBackupPlan"),
    "aws:backup/selection:Selection": (*_named("backup", "Create", "Get", "Delete", thing="BackupSelection"), "iam:PassRole"),
    "aws:backup/vault:Vault": (
        *_named("backup", "Create", "Describe", "Delete", thing="BackupVault"),
        *_calls("backup", "ListRecoveryPointsByBackupVault", "DeleteRecoveryPoint"),
        "backup-storage:MountCapsule",
        *_calls("kms", "CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKey", "RetireGrant"),
        "iam:CreateServiceLinkedRole",
    ),
    "aws:backup/vaultLockConfiguration:VaultLockConfiguration": _named(
        "backup", "Put", "Delete", thing="BackupVaultLockConfiguration"
    ),
    "aws:budgets/budget:Budget": _calls("budgets", "ViewBudget", "ModifyBudget", "TagResource"),
    "aws:cloudtrail/trail:Trail": (
        *_calls("cloudtrail", "CreateTrail", "GetTrail", "StartLogging", "PutEventSelectors", "UpdateTrail", "DeleteTrail"),
        "iam:PassRole",
    ),
    "aws:cloudwatch/eventRule:EventRule": (*_named("events", "Put", "Describe", "Delete", thing="Rule"), "events:TagResource"),
    "aws:cloudwatch/eventTarget:EventTarget": _calls("events", "PutTargets", "ListTargetsByRule", "RemoveTargets"),
    "aws:cloudwatch/logGroup:LogGroup": _calls(
        "logs", "CreateLogGroup", "DescribeLogGroups", "PutRetentionPolicy", "AssociateKmsKey", "DeleteLogGroup"
    ),
    "aws:cloudwatch/logMetricFilter:LogMetricFilter": _calls(
        "logs", "PutMetricFilter", "DescribeMetricFilters", "DeleteMetricFilter"
    ),
    "aws:cloudwatch/metricAlarm:MetricAlarm": _calls("cloudwatch", "PutMetricAlarm", "DescribeAlarms", "DeleteAlarms"),
    "aws:costexplorer/anomalyMonitor:AnomalyMonitor": _calls(
        "ce", "CreateAnomalyMonitor", "GetAnomalyMonitors", "DeleteAnomalyMonitor"
    ),
    "aws:costexplorer/anomalySubscription:AnomalySubscription": _calls(
        "ce", "CreateAnomalySubscription", "GetAnomalySubscriptions", "DeleteAnomalySubscription"
    ),
    "aws:costexplorer/costAllocationTag:CostAllocationTag": _calls(
        "ce", "ListCostAllocationTags", "UpdateCostAllocationTagsStatus"
    ),
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": _calls(
        "ec2", "DescribeSecurityGroups", "RevokeSecurityGroupIngress", "RevokeSecurityGroupEgress", "CreateTags"
    ),
    "aws:ec2/eip:Eip": _calls("ec2", "AllocateAddress", "DescribeAddresses", "ReleaseAddress"),
    "aws:ec2/flowLog:FlowLog": (*_calls("ec2", "CreateFlowLogs", "DescribeFlowLogs", "DeleteFlowLogs"), "iam:PassRole"),
    "aws:ec2/internetGateway:InternetGateway": _named("ec2", "Create", "Attach", "Detach", "Delete", thing="InternetGateway"),
    "aws:ec2/launchTemplate:LaunchTemplate": _calls(
        "ec2", "CreateLaunchTemplate", "CreateLaunchTemplateVersion", "DescribeLaunchTemplates", "DeleteLaunchTemplate"
    ),
    "aws:ec2/natGateway:NatGateway": _named("ec2", "Create", "Delete", thing="NatGateway"),
    "aws:ec2/placementGroup:PlacementGroup": _named("ec2", "Create", "Delete", thing="PlacementGroup"),
    "aws:ec2/route:Route": _named("ec2", "Create", "Replace", "Delete", thing="Route"),
    "aws:ec2/routeTable:RouteTable": _named("ec2", "Create", "Delete", thing="RouteTable"),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": _named("ec2", "Associate", "Disassociate", thing="RouteTable"),
    "aws:ec2/securityGroup:SecurityGroup": _named("ec2", "Create", "Delete", thing="SecurityGroup"),
    "aws:ec2/subnet:Subnet": _named("ec2", "Create", "Delete", thing="Subnet"),
    "aws:ec2/vpc:Vpc": _calls("ec2", "CreateVpc", "ModifyVpcAttribute", "DeleteVpc"),
    "aws:ec2/vpcEndpoint:VpcEndpoint": (
        *_calls("ec2", "CreateVpcEndpoint", "ModifyVpcEndpoint", "DeleteVpcEndpoints"),
        "route53:AssociateVPCWithHostedZone",
    ),
    "aws:efs/accessPoint:AccessPoint": _named("elasticfilesystem", "Create", "Delete", thing="AccessPoint"),
    "aws:efs/fileSystem:FileSystem": (
        *_named("elasticfilesystem", "Create", "Update", "Delete", thing="FileSystem"),
        *_calls("elasticfilesystem", "DescribeFileSystems", "PutLifecycleConfiguration", "TagResource"),
        *_calls("kms", "CreateGrant", "DescribeKey"),
    ),
    "aws:efs/fileSystemPolicy:FileSystemPolicy": _named("elasticfilesystem", "Put", "Delete", thing="FileSystemPolicy"),
    "aws:efs/mountTarget:MountTarget": (
        *_named("elasticfilesystem", "Create", "Delete", thing="MountTarget"),
        *_calls("ec2", "CreateNetworkInterface", "DescribeSubnets"),
        "iam:CreateServiceLinkedRole",
    ),
    "aws:eks/accessEntry:AccessEntry": _named("eks", "Create", "Describe", "Update", "Delete", thing="AccessEntry"),
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": _named("eks", "Associate", "Disassociate", thing="AccessPolicy"),
    "aws:eks/addon:Addon": (*_named("eks", "Create", "Describe", "Update", "Delete", thing="Addon"), "iam:PassRole"),
    "aws:eks/cluster:Cluster": (
        *_named("eks", "Create", "Describe", "Delete", thing="Cluster"),
        *_calls("eks", "UpdateClusterConfig", "UpdateClusterVersion", "TagResource"),
        "iam:PassRole",
        "iam:CreateServiceLinkedRole",
        "kms:CreateGrant",
        "kms:DescribeKey",
    ),
    "aws:eks/nodeGroup:NodeGroup": (
        *_named("eks", "Create", "Describe", "Delete", thing="Nodegroup"),
        *_calls("eks", "UpdateNodegroupConfig", "UpdateNodegroupVersion"),
        "iam:PassRole",
        "iam:CreateServiceLinkedRole",
        "ec2:RunInstances",
    ),
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": (
        *_named("eks", "Create", "Describe", "Update", "Delete", thing="PodIdentityAssociation"),
        "iam:PassRole",
        "iam:GetRole",
    ),
    "aws:iam/instanceProfile:InstanceProfile": (
        *_named("iam", "Create", "Get", "Delete", "Tag", thing="InstanceProfile"),
        *_calls("iam", "AddRoleToInstanceProfile", "RemoveRoleFromInstanceProfile"),
    ),
    "aws:iam/openIdConnectProvider:OpenIdConnectProvider": _named(
        "iam", "Create", "Get", "Tag", "Delete", thing="OpenIDConnectProvider"
    ),
    "aws:iam/role:Role": (*_named("iam", "Create", "Get", "Tag", "Delete", thing="Role"), "iam:UpdateAssumeRolePolicy"),
    "aws:iam/rolePolicy:RolePolicy": _named("iam", "Put", "Get", "Delete", thing="RolePolicy"),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": _named("iam", "Attach", "Detach", thing="RolePolicy"),
    "aws:kms/alias:Alias": (*_named("kms", "Create", "Update", "Delete", thing="Alias"), "kms:ListAliases"),
    "aws:kms/key:Key": _calls(
        "kms", "CreateKey", "DescribeKey", "PutKeyPolicy", "EnableKeyRotation", "TagResource", "ScheduleKeyDeletion"
    ),
    "aws:kms/replicaKey:ReplicaKey": (*_calls("kms", "ReplicateKey", "CreateKey", "PutKeyPolicy"), "iam:CreateServiceLinkedRole"),
    "aws:rds/instance:Instance": (
        *_named("rds", "Create", "Modify", "Delete", thing="DBInstance"),
        *_calls("rds", "DescribeDBInstances", "AddTagsToResource"),
        *_calls("secretsmanager", "CreateSecret", "TagResource"),
        *_calls("kms", "CreateGrant", "DescribeKey", "GenerateDataKey", "Decrypt"),
        "iam:PassRole",
        "iam:CreateServiceLinkedRole",
    ),
    "aws:rds/parameterGroup:ParameterGroup": _named("rds", "Create", "Modify", "Delete", thing="DBParameterGroup"),
    "aws:rds/subnetGroup:SubnetGroup": _named("rds", "Create", "Modify", "Delete", thing="DBSubnetGroup"),
    "aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2": _named(
        "s3", "Get", "Put", thing="LifecycleConfiguration"
    ),
    "aws:s3/bucketLoggingV2:BucketLoggingV2": _named("s3", "Get", "Put", thing="BucketLogging"),
    "aws:s3/bucketObjectLockConfigurationV2:BucketObjectLockConfigurationV2": _named(
        "s3", "Get", "Put", thing="BucketObjectLockConfiguration"
    ),
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": _named("s3", "Get", "Put", thing="BucketOwnershipControls"),
    "aws:s3/bucketPolicy:BucketPolicy": _named("s3", "Get", "Put", "Delete", thing="BucketPolicy"),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": _named("s3", "Get", "Put", thing="BucketPublicAccessBlock"),
    "aws:s3/bucketReplicationConfig:BucketReplicationConfig": (
        *_named("s3", "Get", "Put", thing="ReplicationConfiguration"),
        "iam:PassRole",
    ),
    "aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2": _named(
        "s3", "Get", "Put", thing="EncryptionConfiguration"
    ),
    "aws:s3/bucketV2:BucketV2": _calls("s3", "CreateBucket", "ListBucket", "PutBucketTagging", "DeleteBucket"),
    "aws:s3/bucketVersioningV2:BucketVersioningV2": _named("s3", "Get", "Put", thing="BucketVersioning"),
    "aws:sns/topic:Topic": _calls("sns", "CreateTopic", "GetTopicAttributes", "SetTopicAttributes", "DeleteTopic"),
    "aws:sns/topicPolicy:TopicPolicy": _calls("sns", "SetTopicAttributes"),
    "aws:sns/topicSubscription:TopicSubscription": _calls("sns", "Subscribe", "GetSubscriptionAttributes", "Unsubscribe"),
    "aws:sqs/queue:Queue": _calls("sqs", "CreateQueue", "GetQueueAttributes", "TagQueue", "DeleteQueue"),
    "aws:sqs/queuePolicy:QueuePolicy": _calls("sqs", "SetQueueAttributes"),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": _named("ec2", "Authorize", "Revoke", thing="SecurityGroupEgress"),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _named("ec2", "Authorize", "Revoke", thing="SecurityGroupIngress"),
}

SERVICE_ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "aws:backup/vault:Vault": ("backup",),
    "aws:efs/mountTarget:MountTarget": ("elasticfilesystem",),
    "aws:eks/cluster:Cluster": ("eks",),
    "aws:eks/nodeGroup:NodeGroup": ("autoscaling", "eks-nodegroup", "spot"),
    "aws:kms/replicaKey:ReplicaKey": ("mrk.kms",),
    "aws:rds/instance:Instance": ("rds",),
}
"""Type → services whose own role the first one in an account makes, in the name of who makes the resource."""
