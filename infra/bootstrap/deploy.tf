# What deployments may do, and what they never can.
#
# Pulumi makes, reads, changes and deletes some ninety kinds of resources, of which EC2, EKS and KMS name few before they exist. A list of
# single actions would be longer than a policy may be and wrong at the next upgrade of the provider. So the width is: these services, in
# these regions. The depth is cut where it counts: by name (buckets, roles, state), by boundary (roles cannot be stronger than theirs), by
# tag (another environment), and by a ceiling that no policy lifts (data, CI's own identity, and in prod what must not be destroyed).

locals {
  named = { for environment in var.environments : environment => "ai-infra-${environment}-*" }
  iam   = "arn:aws:iam::${var.account}"

  deploy_policies = {
    for environment in var.environments : environment => {
      Version = "2012-10-17"
      Statement = [
        {
          Sid    = "Build"
          Effect = "Allow"
          Action = [
            "autoscaling:*",
            "backup:*",
            "backup-storage:MountCapsule",
            "cloudhsm:Describe*",
            "cloudtrail:*",
            "cloudwatch:*",
            "ec2:*",
            "ecr:*",
            "eks:*",
            "elasticfilesystem:*",
            "events:*",
            "logs:*",
            "rds:*",
            "secretsmanager:*",
            "sns:*",
            "sqs:*",
            "ssm:GetParameter*",
          ]
          Resource  = "*"
          Condition = { StringEquals = { "aws:RequestedRegion" = local.regions } }
        },
        {
          Sid    = "Keys"
          Effect = "Allow"
          Action = [
            "kms:CancelKeyDeletion",
            "kms:ConnectCustomKeyStore",
            "kms:Create*",
            "kms:DeleteAlias",
            "kms:Describe*",
            "kms:DisableKey*",
            "kms:Enable*",
            "kms:Get*",
            "kms:List*",
            "kms:PutKeyPolicy",
            "kms:ReplicateKey",
            "kms:RetireGrant",
            "kms:RevokeGrant",
            "kms:ScheduleKeyDeletion",
            "kms:TagResource",
            "kms:UntagResource",
            "kms:Update*",
          ]
          Resource  = "*"
          Condition = { StringEquals = { "aws:RequestedRegion" = local.regions } }
        },
        {
          # RDS, Secrets Manager and the like encrypt on behalf of whoever makes the thing.
          Sid       = "KeysThroughServices"
          Effect    = "Allow"
          Action    = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
          Resource  = "*"
          Condition = { StringLike = { "kms:ViaService" = [for region in local.regions : "*.${region}.amazonaws.com"] } }
        },
        {
          Sid      = "Money"
          Effect   = "Allow"
          Action   = ["budgets:*", "ce:*"]
          Resource = "*"
        },
        {
          # Asked when an endpoint gets its private name. Route 53 has no regions.
          Sid      = "PrivateNames"
          Effect   = "Allow"
          Action   = "route53:AssociateVPCWithHostedZone"
          Resource = "*"
        },
        {
          Sid      = "Buckets"
          Effect   = "Allow"
          Action   = ["s3:CreateBucket", "s3:DeleteBucket*", "s3:Get*", "s3:ListBucket*", "s3:Put*"]
          Resource = "arn:aws:s3:::${local.named[environment]}"
        },
        {
          Sid       = "ListState"
          Effect    = "Allow"
          Action    = "s3:ListBucket"
          Resource  = aws_s3_bucket.state.arn
          Condition = { StringLike = { "s3:prefix" = [environment, "${environment}/*"] } }
        },
        {
          Sid      = "State"
          Effect   = "Allow"
          Action   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
          Resource = "${aws_s3_bucket.state.arn}/${environment}/*"
        },
        {
          Sid      = "StateKeys"
          Effect   = "Allow"
          Action   = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"]
          Resource = [aws_kms_key.state.arn, aws_kms_key.secrets[environment].arn]
        },
        {
          Sid      = "ReadRoles"
          Effect   = "Allow"
          Action   = ["iam:Get*", "iam:List*"]
          Resource = "*"
        },
        {
          Sid       = "StrengthenRoles"
          Effect    = "Allow"
          Action    = ["iam:AttachRolePolicy", "iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"]
          Resource  = "${local.iam}:role/${local.named[environment]}"
          Condition = { StringEquals = { "iam:PermissionsBoundary" = aws_iam_policy.boundary[environment].arn } }
        },
        {
          Sid    = "KeepRoles"
          Effect = "Allow"
          Action = [
            "iam:AddRoleToInstanceProfile",
            "iam:CreateInstanceProfile",
            "iam:DeleteInstanceProfile",
            "iam:DeleteRole",
            "iam:DeleteRolePolicy",
            "iam:DetachRolePolicy",
            "iam:RemoveRoleFromInstanceProfile",
            "iam:TagInstanceProfile",
            "iam:TagRole",
            "iam:UntagInstanceProfile",
            "iam:UntagRole",
            "iam:UpdateAssumeRolePolicy",
            "iam:UpdateRole",
            "iam:UpdateRoleDescription",
          ]
          Resource = ["${local.iam}:role/${local.named[environment]}", "${local.iam}:instance-profile/${local.named[environment]}"]
        },
        {
          Sid    = "ClusterIssuer"
          Effect = "Allow"
          Action = [
            "iam:CreateOpenIDConnectProvider",
            "iam:DeleteOpenIDConnectProvider",
            "iam:TagOpenIDConnectProvider",
            "iam:UntagOpenIDConnectProvider",
          ]
          Resource = "${local.iam}:oidc-provider/oidc.eks.${var.region}.amazonaws.com/*"
        },
        {
          Sid      = "GiveRoles"
          Effect   = "Allow"
          Action   = "iam:PassRole"
          Resource = "${local.iam}:role/${local.named[environment]}"
          Condition = {
            StringEquals = {
              "iam:PassedToService" = [
                "backup.amazonaws.com",
                "cloudtrail.amazonaws.com",
                "ec2.amazonaws.com",
                "eks.amazonaws.com",
                "monitoring.rds.amazonaws.com",
                "pods.eks.amazonaws.com",
                "s3.amazonaws.com",
                "vpc-flow-logs.amazonaws.com",
              ]
            }
          }
        },
        {
          Sid      = "ServiceRoles"
          Effect   = "Allow"
          Action   = "iam:CreateServiceLinkedRole"
          Resource = "${local.iam}:role/aws-service-role/*"
          Condition = {
            StringEquals = {
              "iam:AWSServiceName" = [
                "autoscaling.amazonaws.com",
                "backup.amazonaws.com",
                "eks.amazonaws.com",
                "eks-nodegroup.amazonaws.com",
                "elasticfilesystem.amazonaws.com",
                "mrk.kms.amazonaws.com",
                "rds.amazonaws.com",
                "spot.amazonaws.com",
              ]
            }
          }
        },
      ]
    }
  }

  # Deny wins over every Allow, also over those of resource policies. The boundary's own Allow grants nothing.
  ceilings = {
    for environment in var.environments : environment => {
      Version = "2012-10-17"
      Statement = concat(
        [{ Sid = "WhatPoliciesAllow", Effect = "Allow", Action = "*", Resource = "*" }],
        [for sid, denied in local.never : merge({ Sid = sid, Effect = "Deny" }, denied)],
        [
          {
            Sid         = "NoData"
            Effect      = "Deny"
            Action      = ["s3:DeleteObject*", "s3:GetObject*", "s3:PutObject*"]
            NotResource = "${aws_s3_bucket.state.arn}/${environment}/*"
          },
          {
            Sid         = "NoPlaintext"
            Effect      = "Deny"
            Action      = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
            NotResource = [aws_kms_key.state.arn, aws_kms_key.secrets[environment].arn]
            Condition   = { Null = { "kms:ViaService" = "true" } }
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
        ],
        environment == "prod" ? [{ Sid = "NeverDestroy", Effect = "Deny", Action = local.kept, Resource = "*" }] : [],
      )
    }
  }

  never = {
    NoOwnIdentity = {
      Action = "iam:*"
      Resource = [
        "${local.iam}:oidc-provider/${local.issuer}",
        "${local.iam}:policy/ai-infra-ci-*",
        "${local.iam}:role/ai-infra-*-deploy",
        "${local.iam}:role/ai-infra-ci-*",
      ]
    }
    NoEscape = {
      Action = [
        "account:*",
        "iam:CreateAccessKey",
        "iam:CreateLoginProfile",
        "iam:CreateUser",
        "iam:DeleteRolePermissionsBoundary",
        "organizations:*",
        "sts:AssumeRole",
      ]
      Resource = "*"
    }
    NoSecrets = {
      Action = [
        "kms:GenerateMac",
        "kms:Sign",
        "secretsmanager:BatchGetSecretValue",
        "secretsmanager:GetSecretValue",
        "ssm:SendCommand",
        "ssm:StartSession",
      ]
      Resource = "*"
    }
    NoRuleOverState = {
      NotAction = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"]
      Resource  = concat([aws_kms_key.state.arn], [for key in values(aws_kms_key.secrets) : key.arn])
    }
    NoRuleOverStateBuckets = {
      NotAction = ["s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]
      Resource = [
        aws_s3_bucket.state.arn,
        "${aws_s3_bucket.state.arn}/*",
        aws_s3_bucket.logs.arn,
        "${aws_s3_bucket.logs.arn}/*",
      ]
    }
  }

  # In prod an operator does these, with a second person beside; see deployment.md.
  kept = [
    "backup:DeleteBackupVault",
    "backup:DeleteRecoveryPoint",
    "cloudtrail:DeleteTrail",
    "cloudtrail:StopLogging",
    "eks:DeleteCluster",
    "kms:DisableKey",
    "kms:ScheduleKeyDeletion",
    "rds:DeleteDBInstance",
    "rds:DeleteDBSnapshot",
    "s3:DeleteBucket",
  ]
}
