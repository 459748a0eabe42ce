# What must be there before Pulumi can run: where its state lies, and the keys of its secrets. CI's identities: ci.tf.
# Applied once an account, by an administrator, and then rarely.

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account]

  default_tags {
    tags = { team = var.tags.team, cost_centre = var.tags.cost_centre, project = "ai-infra", program = "infra/bootstrap" }
  }
}

locals {
  state_bucket = "ai-infra-state-${var.account}"
  buckets      = { state = aws_s3_bucket.state.id, logs = aws_s3_bucket.logs.id }
  deployers    = { for environment in var.environments : environment => "arn:aws:iam::${var.account}:role/ai-infra-${environment}-deploy" }
}

# State. Each environment has a prefix of its own in the bucket, which only its deploy role and the operators can read.
# Pulumi's lock is an object as well: PREFIX/.pulumi/locks/…, so there is no table either.

resource "aws_s3_bucket" "state" {
  bucket = local.state_bucket

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.state.arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    id     = "superseded"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.state_noncurrent_days
    }

    # A lock that was given back leaves only its delete marker.
    expiration {
      expired_object_delete_marker = true
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.both]
}

resource "aws_s3_bucket_policy" "state" {
  bucket = aws_s3_bucket.state.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat([local.tls_only["state"]], local.only_our_key)
  })
}

resource "aws_s3_bucket_logging" "state" {
  bucket        = aws_s3_bucket.state.id
  target_bucket = aws_s3_bucket.logs.id
  target_prefix = "state/"

  target_object_key_format {
    partitioned_prefix {
      partition_date_source = "EventTime"
    }
  }

  depends_on = [aws_s3_bucket_policy.logs]
}

# Who read or wrote the state. S3 delivers its logs into no bucket that is encrypted by a key of KMS, hence AES256.

resource "aws_s3_bucket" "logs" {
  bucket = "${local.state_bucket}-logs"

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "logs" {
  bucket = aws_s3_bucket.logs.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "logs" {
  bucket = aws_s3_bucket.logs.id

  rule {
    id     = "expire"
    status = "Enabled"

    filter {}

    expiration {
      days = var.access_log_days
    }

    noncurrent_version_expiration {
      noncurrent_days = 1
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.both]
}

resource "aws_s3_bucket_policy" "logs" {
  bucket = aws_s3_bucket.logs.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [local.tls_only["logs"], local.log_delivery]
  })
}

# Both buckets: they keep versions, are closed to the public, and have no ACLs.

resource "aws_s3_bucket_versioning" "both" {
  for_each = local.buckets

  bucket = each.value

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_public_access_block" "both" {
  for_each = local.buckets

  bucket                  = each.value
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "both" {
  for_each = local.buckets

  bucket = each.value

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# Keys. One for the bucket, and one for the secrets of each environment, so that dev's CI cannot read those of prod.

resource "aws_kms_key" "state" {
  description             = "ai-infra: state of Pulumi and Terraform"
  enable_key_rotation     = true
  deletion_window_in_days = var.key_deletion_days
  policy                  = jsonencode(local.key_policies["state"])

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "state" {
  name          = "alias/ai-infra-state"
  target_key_id = aws_kms_key.state.key_id
}

resource "aws_kms_key" "secrets" {
  for_each = var.environments

  description             = "ai-infra: secrets in the state of ${each.key}"
  enable_key_rotation     = true
  deletion_window_in_days = var.key_deletion_days
  policy                  = jsonencode(local.key_policies[each.key])
  tags                    = { environment = each.key }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "secrets" {
  for_each = var.environments

  name          = "alias/ai-infra-${each.key}-pulumi"
  target_key_id = aws_kms_key.secrets[each.key].key_id
}

# Whoever starts the first spot instance in an account needs the role of the service. Karpenter may make no roles: it would take the refusal
# for a lack of capacity, and its pods would wait for ever.

resource "aws_iam_service_linked_role" "spot" {
  aws_service_name = "spot.amazonaws.com"
}
