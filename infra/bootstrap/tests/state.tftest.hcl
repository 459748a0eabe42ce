# The state's bucket, its access log and the keys. Nothing is made: values that AWS would give are given here.

mock_provider "aws" {
  source          = "./mocks"
  override_during = plan
}

override_resource {
  target          = aws_s3_bucket.state
  override_during = plan
  values          = { arn = "arn:aws:s3:::ai-infra-state-111122223333", id = "ai-infra-state-111122223333" }
}

override_resource {
  target          = aws_s3_bucket.logs
  override_during = plan
  values          = { arn = "arn:aws:s3:::ai-infra-state-111122223333-logs", id = "ai-infra-state-111122223333-logs" }
}

override_resource {
  target          = aws_kms_key.state
  override_during = plan
  values          = { arn = "arn:aws:kms:eu-central-1:111122223333:key/state", key_id = "state" }
}

variables {
  account            = "111122223333"
  region             = "eu-central-1"
  environments       = ["dev", "staging"]
  github_repository  = "example/models"
  operator_role_arns = ["arn:aws:iam::111122223333:role/platform-operator"]
  tags               = { team = "platform", cost_centre = "1200" }
}

run "state_is_versioned_and_encrypted_by_its_own_key" {
  command = plan

  assert {
    condition     = aws_s3_bucket_versioning.both["state"].versioning_configuration[0].status == "Enabled"
    error_message = "a superseded state must stay restorable"
  }

  assert {
    condition = [for rule in aws_s3_bucket_server_side_encryption_configuration.state.rule : [
      rule.bucket_key_enabled, rule.apply_server_side_encryption_by_default[0].sse_algorithm, rule.apply_server_side_encryption_by_default[0].kms_master_key_id,
    ]] == [[true, "aws:kms", "arn:aws:kms:eu-central-1:111122223333:key/state"]]
    error_message = "the bucket must encrypt by the state's key"
  }
}

run "no_bucket_is_public_and_none_has_acls" {
  command = plan

  assert {
    condition = length(aws_s3_bucket_public_access_block.both) == 2 && alltrue([for block in values(aws_s3_bucket_public_access_block.both) :
      block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets
    ])
    error_message = "all four blocks of both buckets must be on"
  }

  assert {
    condition = [for controls in values(aws_s3_bucket_ownership_controls.both) :
      controls.rule[0].object_ownership
    ] == ["BucketOwnerEnforced", "BucketOwnerEnforced"]
    error_message = "ACLs must be off in both buckets"
  }
}

run "buckets_are_reached_over_tls_only" {
  command = plan

  assert {
    condition = [for policy in [aws_s3_bucket_policy.state.policy, aws_s3_bucket_policy.logs.policy] :
      [for statement in jsondecode(policy).Statement : statement.Resource if try(statement.Condition.Bool["aws:SecureTransport"], "") == "false" && statement.Effect == "Deny" && statement.Principal == "*" && statement.Action == "s3:*"]
      ] == [
      [["arn:aws:s3:::ai-infra-state-111122223333", "arn:aws:s3:::ai-infra-state-111122223333/*"]],
      [["arn:aws:s3:::ai-infra-state-111122223333-logs", "arn:aws:s3:::ai-infra-state-111122223333-logs/*"]],
    ]
    error_message = "both buckets and their objects must refuse plain HTTP"
  }
}

run "state_under_another_key_is_refused_and_under_the_default_taken" {
  command = plan

  # Without Null the Deny would hold for writers that send no header, as Pulumi does.
  assert {
    condition = { for statement in jsondecode(aws_s3_bucket_policy.state.policy).Statement : statement.Sid => statement.Condition if statement.Action == "s3:PutObject" } == {
      KeyNamed = {
        Null = { "s3:x-amz-server-side-encryption" = "false", "s3:x-amz-server-side-encryption-aws-kms-key-id" = "true" }
      }
      OnlyKms = {
        Null            = { "s3:x-amz-server-side-encryption" = "false" }
        StringNotEquals = { "s3:x-amz-server-side-encryption" = "aws:kms" }
      }
      OnlyOurKey = {
        Null            = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = "false" }
        StringNotEquals = { "s3:x-amz-server-side-encryption-aws-kms-key-id" = "arn:aws:kms:eu-central-1:111122223333:key/state" }
      }
    }
    error_message = "writes that name another key or algorithm, and only those, must be denied"
  }
}

run "access_to_the_state_is_logged_beside_it" {
  command = plan

  assert {
    condition     = [aws_s3_bucket_logging.state.target_bucket, aws_s3_bucket_logging.state.target_prefix] == ["ai-infra-state-111122223333-logs", "state/"]
    error_message = "the state's accesses must be logged into the bucket for it"
  }

  assert {
    condition = [for statement in jsondecode(aws_s3_bucket_policy.logs.policy).Statement : [statement.Principal.Service, statement.Resource, statement.Condition.ArnLike["aws:SourceArn"]] if statement.Effect == "Allow"] == [
      ["logging.s3.amazonaws.com", "arn:aws:s3:::ai-infra-state-111122223333-logs/state/*", "arn:aws:s3:::ai-infra-state-111122223333"],
    ]
    error_message = "only S3's log delivery, for this bucket, may write logs"
  }
}

run "superseded_states_and_logs_end_when_told" {
  command = plan

  variables {
    state_noncurrent_days = 120
    access_log_days       = 90
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.state.rule[0].noncurrent_version_expiration[0].noncurrent_days == 120
    error_message = "superseded states must be kept for state_noncurrent_days"
  }

  assert {
    # AWS takes this flag only in an expiration without days.
    condition     = aws_s3_bucket_lifecycle_configuration.state.rule[0].expiration[0].expired_object_delete_marker
    error_message = "of current objects nothing but a lone delete marker may expire"
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.logs.rule[0].expiration[0].days == 90
    error_message = "logs must be kept for access_log_days"
  }
}

run "each_environment_has_its_own_secrets_key_behind_an_alias" {
  command = plan

  assert {
    condition     = { for environment, alias in aws_kms_alias.secrets : environment => alias.name } == { dev = "alias/ai-infra-dev-pulumi", staging = "alias/ai-infra-staging-pulumi" }
    error_message = "one key and one alias an environment"
  }

  assert {
    condition     = alltrue([for key in concat([aws_kms_key.state], values(aws_kms_key.secrets)) : key.enable_key_rotation && key.deletion_window_in_days == 30])
    error_message = "keys must rotate, and their deletion must be long to take back"
  }

  assert {
    condition     = output.pulumi_secrets_provider == { dev = "awskms://alias/ai-infra-dev-pulumi?region=eu-central-1", staging = "awskms://alias/ai-infra-staging-pulumi?region=eu-central-1" }
    error_message = "stacks must name their key by its alias"
  }

  assert {
    condition     = output.pulumi_backend.dev == "s3://ai-infra-state-111122223333/dev?region=eu-central-1"
    error_message = "each environment must have a prefix of its own"
  }
}

run "only_own_deployer_and_operators_use_a_key" {
  command = plan

  assert {
    condition = { for name, policy in merge({ state = aws_kms_key.state.policy }, { for environment, key in aws_kms_key.secrets : environment => key.policy }) :
      name => [for statement in jsondecode(policy).Statement : statement.Condition.ArnNotEquals["aws:PrincipalArn"] if statement.Effect == "Deny" && contains(flatten([statement.Action]), "kms:Decrypt")]
      } == {
      state   = [["arn:aws:iam::111122223333:role/ai-infra-dev-deploy", "arn:aws:iam::111122223333:role/ai-infra-staging-deploy", "arn:aws:iam::111122223333:role/platform-operator"]]
      dev     = [["arn:aws:iam::111122223333:role/ai-infra-dev-deploy", "arn:aws:iam::111122223333:role/platform-operator"]]
      staging = [["arn:aws:iam::111122223333:role/ai-infra-staging-deploy", "arn:aws:iam::111122223333:role/platform-operator"]]
    }
    error_message = "a key must decrypt for its own deploy role and the operators, and for nobody else"
  }
}

run "an_account_has_the_role_of_spot_before_karpenter_asks_for_spot_nodes" {
  command = plan

  assert {
    condition     = aws_iam_service_linked_role.spot.aws_service_name == "spot.amazonaws.com"
    error_message = "no controller may make it, so it must be there"
  }
}
