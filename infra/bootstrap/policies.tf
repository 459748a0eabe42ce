# The policies: of buckets, keys and roles. Documents only; what they are given to is in main.tf and ci.tf.

locals {
  operators     = tolist(var.operator_role_arns)
  all_deployers = [for environment in sort(tolist(var.environments)) : local.deployers[environment]]
  regions       = compact([var.region, var.replica_region])

  tls_only = {
    for name, bucket in { state = aws_s3_bucket.state.arn, logs = aws_s3_bucket.logs.arn } : name => {
      Sid                       = "TlsOnly"
      Effect                    = "Deny"
      Principal                 = "*"
      Action                    = "s3:*"
      Resource                  = [bucket, "${bucket}/*"]
      Condition                 = { Bool = { "aws:SecureTransport" = "false" } }
    }
  }

  # A writer that names another key could lock everybody out of the state. Who names none gets the bucket's own; a negated condition
  # holds for a header that is not there, hence Null.
  # KMS asked for without a key is not the bucket's key but the one that AWS has for all of S3.
  how = "s3:x-amz-server-side-encryption"
  key = "s3:x-amz-server-side-encryption-aws-kms-key-id"

  only_our_key = [
    for sid, condition in {
      KeyNamed   = { Null = { (local.how) = "false", (local.key) = "true" } }
      OnlyKms    = { Null = { (local.how) = "false" }, StringNotEquals = { (local.how) = "aws:kms" } }
      OnlyOurKey = { Null = { (local.key) = "false" }, StringNotEquals = { (local.key) = aws_kms_key.state.arn } }
      } : {
      Sid       = sid
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:PutObject"
      Resource  = "${aws_s3_bucket.state.arn}/*"
      Condition = condition
    }
  ]

  log_delivery = {
    Sid       = "LogDelivery"
    Effect    = "Allow"
    Principal = { Service = "logging.s3.amazonaws.com" }
    Action    = "s3:PutObject"
    Resource  = "${aws_s3_bucket.logs.arn}/state/*"
    Condition = {
      ArnLike      = { "aws:SourceArn" = aws_s3_bucket.state.arn }
      StringEquals = { "aws:SourceAccount" = var.account }
    }
  }

  # Key → who may use it. IAM alone would leave that to whatever policy somebody gets; a Deny in the key's own policy does not.
  key_users = merge(
    { state = concat(local.all_deployers, local.operators) },
    { for environment, deployer in local.deployers : environment => concat([deployer], local.operators) },
  )

  key_policies = {
    for key, users in local.key_users : key => {
      Version = "2012-10-17"
      Statement = [
        {
          Sid       = "Account"
          Effect    = "Allow"
          Principal = { AWS = "arn:aws:iam::${var.account}:root" }
          Action    = "kms:*"
          Resource  = "*"
        },
        {
          Sid       = "NobodyElse"
          Effect    = "Deny"
          Principal = "*"
          Action    = ["kms:CreateGrant", "kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
          Resource  = "*"
          Condition = { ArnNotEquals = { "aws:PrincipalArn" = users } }
        },
      ]
    }
  }

  # Whole subjects, compared for equality: no other repository, branch or environment is one.
  subjects = merge(
    { preview = "repo:${var.github_repository}:pull_request" },
    { for environment in var.environments : environment => "repo:${var.github_repository}:environment:${environment}" },
  )

  trusts = {
    for who, subject in local.subjects : who => {
      Version = "2012-10-17"
      Statement = [{
        Sid       = "GitHub"
        Effect    = "Allow"
        Principal = { Federated = aws_iam_openid_connect_provider.github.arn }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = { StringEquals = { "${local.issuer}:aud" = "sts.amazonaws.com", "${local.issuer}:sub" = subject } }
      }]
    }
  }

  # SecurityAudit reads settings. What it or a later policy lets read of data is denied.
  no_data = {
    Version = "2012-10-17"
    Statement = [{
      Sid    = "NoData"
      Effect = "Deny"
      Action = [
        "ecr:BatchGetImage",
        "ecr:GetAuthorizationToken",
        "kms:Decrypt",
        "kms:Encrypt",
        "kms:GenerateDataKey*",
        "kms:GenerateMac",
        "kms:ReEncrypt*",
        "kms:Sign",
        "logs:FilterLogEvents",
        "logs:GetLogEvents",
        "logs:StartQuery",
        "s3:GetObject*",
        "secretsmanager:BatchGetSecretValue",
        "secretsmanager:GetSecretValue",
        "sqs:ReceiveMessage",
        "ssm:GetParameter*",
        "ssm:SendCommand",
        "ssm:StartSession",
        "sts:AssumeRole",
      ]
      Resource = "*"
    }]
  }
}
