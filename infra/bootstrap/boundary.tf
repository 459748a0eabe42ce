# The most that any role of an environment can do: the services that workloads, nodes, add-ons, backups and replication use, no writing of
# IAM, no rule over keys, buckets or the trail, and nothing of CI's state. Without it, who may make roles may make an administrator.

locals {
  boundaries = {
    for environment in var.environments : environment => {
      Version = "2012-10-17"
      Statement = [
        {
          Sid    = "Work"
          Effect = "Allow"
          Action = [
            "autoscaling:*",
            "backup:*",
            "cloudwatch:*",
            "ec2:*",
            "ecr:*",
            "eks:*",
            "eks-auth:AssumeRoleForPodIdentity",
            "elasticloadbalancing:*",
            "events:*",
            "kms:*",
            "logs:*",
            "pricing:GetProducts",
            "rds:*",
            "rds-db:connect",
            "s3:*",
            "secretsmanager:*",
            "sns:*",
            "sqs:*",
            "ssm:GetParameter*",
            "tag:GetResources",
            "xray:Put*",
          ]
          Resource = "*"
        },
        {
          Sid      = "ReadRoles"
          Effect   = "Allow"
          Action   = ["iam:Get*", "iam:List*"]
          Resource = "*"
        },
        {
          Sid      = "GiveOwnRoles"
          Effect   = "Allow"
          Action   = "iam:PassRole"
          Resource = "${local.iam}:role/${local.named[environment]}"
        },
        {
          Sid       = "LoadBalancers"
          Effect    = "Allow"
          Action    = "iam:CreateServiceLinkedRole"
          Resource  = "${local.iam}:role/aws-service-role/*"
          Condition = { StringEquals = { "iam:AWSServiceName" = "elasticloadbalancing.amazonaws.com" } }
        },
        {
          Sid    = "NoRule"
          Effect = "Deny"
          Action = [
            "kms:CreateKey",
            "kms:DisableKey*",
            "kms:PutKeyPolicy",
            "kms:ScheduleKeyDeletion",
            "s3:BypassGovernanceRetention",
            "s3:DeleteBucket*",
            "s3:PutBucketObjectLockConfiguration",
            "s3:PutBucketPolicy",
            "s3:PutBucketPublicAccessBlock",
            "s3:PutBucketVersioning",
          ]
          Resource = "*"
        },
        {
          Sid      = "NoState"
          Effect   = "Deny"
          Action   = ["kms:*", "s3:*"]
          Resource = concat(local.never.NoRuleOverState.Resource, local.never.NoRuleOverStateBuckets.Resource)
        },
        {
          Sid      = "NoOtherEnvironment"
          Effect   = "Deny"
          Action   = "*"
          Resource = "*"
          Condition = {
            Null            = { "aws:ResourceTag/environment" = "false" }
            StringNotEquals = { "aws:ResourceTag/environment" = environment }
          }
        },
      ]
    }
  }
}
