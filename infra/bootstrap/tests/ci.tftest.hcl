# Who takes CI's roles, and what those can do. Nothing is made: values that AWS would give are given here.

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

override_resource {
  target          = aws_iam_policy.boundary
  override_during = plan
  values          = { arn = "arn:aws:iam::111122223333:policy/boundary" }
}

override_resource {
  target          = aws_iam_policy.ceiling
  override_during = plan
  values          = { arn = "arn:aws:iam::111122223333:policy/ceiling" }
}

variables {
  account            = "111122223333"
  region             = "eu-central-1"
  environments       = ["dev", "prod"]
  github_repository  = "example/models"
  operator_role_arns = ["arn:aws:iam::111122223333:role/platform-operator"]
  tags               = { team = "platform", cost_centre = "1200" }
}

run "only_the_provider_of_github_and_its_audience_is_trusted" {
  command = plan

  assert {
    condition     = [aws_iam_openid_connect_provider.github.url, aws_iam_openid_connect_provider.github.client_id_list] == ["https://token.actions.githubusercontent.com", toset(["sts.amazonaws.com"])]
    error_message = "the issuer must be GitHub's, for tokens made for AWS"
  }
}

run "a_role_is_taken_by_one_whole_subject" {
  command = plan

  # The whole condition is compared: no StringLike, no wildcard, no second subject.
  assert {
    condition = { for name, role in merge({ preview = aws_iam_role.preview }, aws_iam_role.deploy) : name => [for statement in jsondecode(role.assume_role_policy).Statement : [statement.Action, statement.Condition]] } == {
      for name, subject in { preview = "repo:example/models:pull_request", dev = "repo:example/models:environment:dev", prod = "repo:example/models:environment:prod" } : name => [
        ["sts:AssumeRoleWithWebIdentity", { StringEquals = { "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com", "token.actions.githubusercontent.com:sub" = subject } }],
      ]
    }
    error_message = "a role must trust exactly one subject of exactly this repository"
  }
}

run "a_preview_reads_settings_and_no_data" {
  command = plan

  assert {
    condition     = aws_iam_role_policy_attachment.preview.policy_arn == "arn:aws:iam::aws:policy/SecurityAudit"
    error_message = "a preview must read settings only"
  }

  assert {
    condition = length(setsubtract(
      ["kms:Decrypt", "s3:GetObject*", "secretsmanager:GetSecretValue", "ssm:GetParameter*", "logs:GetLogEvents", "sts:AssumeRole"],
      flatten([for statement in jsondecode(aws_iam_role_policy.preview.policy).Statement : statement.Action if statement.Effect == "Deny" && try(statement.Resource, "") == "*" && !can(statement.Condition)]),
    )) == 0
    error_message = "data, secrets and other roles must be denied to a preview on every resource"
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.preview.policy).Statement : statement.Effect] == ["Deny"]
    error_message = "a preview must not be allowed anything beside"
  }

  assert {
    condition     = aws_iam_role.preview.max_session_duration == 3600
    error_message = "a preview's session must last an hour"
  }
}

run "a_deployer_has_its_ceiling" {
  command = plan

  assert {
    condition     = [for role in values(aws_iam_role.deploy) : role.permissions_boundary] == ["arn:aws:iam::111122223333:policy/ceiling", "arn:aws:iam::111122223333:policy/ceiling"]
    error_message = "no deploy role may be without its ceiling"
  }
}

run "a_deployer_reads_and_writes_the_state_of_its_environment_only" {
  command = plan

  assert {
    condition = { for environment, policy in aws_iam_policy.deploy : environment => [for statement in jsondecode(policy.policy).Statement : statement.Resource if statement.Effect == "Allow" && contains(flatten([statement.Action]), "s3:GetObject")] } == {
      dev  = ["arn:aws:s3:::ai-infra-state-111122223333/dev/*"]
      prod = ["arn:aws:s3:::ai-infra-state-111122223333/prod/*"]
    }
    error_message = "objects must be readable under the environment's own prefix only"
  }

  assert {
    condition = { for environment, policy in aws_iam_policy.ceiling : environment => [for statement in jsondecode(policy.policy).Statement : statement.NotResource if statement.Sid == "NoData"] } == {
      dev  = ["arn:aws:s3:::ai-infra-state-111122223333/dev/*"]
      prod = ["arn:aws:s3:::ai-infra-state-111122223333/prod/*"]
    }
    error_message = "every other object must be denied by the ceiling"
  }
}

run "a_deployer_makes_bounded_roles_of_its_environment_only" {
  command = plan

  assert {
    condition = { for environment, policy in aws_iam_policy.deploy : environment => {
      for statement in jsondecode(policy.policy).Statement : statement.Sid => [statement.Resource, try(statement.Condition, null)] if length(setintersection(flatten([statement.Action]), ["iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:PutRolePermissionsBoundary"])) > 0
      } } == { for environment in ["dev", "prod"] : environment => {
      StrengthenRoles = ["arn:aws:iam::111122223333:role/ai-infra-${environment}-*", { StringEquals = { "iam:PermissionsBoundary" = "arn:aws:iam::111122223333:policy/boundary" } }]
    } }
    error_message = "a role that is made or strengthened must be of the environment and have its boundary"
  }

  assert {
    condition = alltrue([for policy in values(aws_iam_policy.deploy) : alltrue([
      for statement in jsondecode(policy.policy).Statement : !contains(flatten([statement.Action]), "iam:*") && !contains(flatten([statement.Action]), "*") && statement.Effect == "Allow"
    ])])
    error_message = "a deployer must have neither all of IAM nor everything"
  }
}

run "the_ceiling_closes_every_way_out" {
  command = plan

  # Without a condition and on the very resources: a weaker Deny is none.
  assert {
    condition = alltrue([for policy in values(aws_iam_policy.ceiling) : length(setsubtract(
      ["iam:CreateUser", "iam:CreateAccessKey", "iam:DeleteRolePermissionsBoundary", "organizations:*", "sts:AssumeRole", "kms:Sign", "secretsmanager:GetSecretValue"],
      flatten([for statement in jsondecode(policy.policy).Statement : statement.Action if statement.Effect == "Deny" && try(statement.Resource, "") == "*" && !can(statement.Condition) && can(statement.Action)]),
    )) == 0])
    error_message = "users, boundaries, organisation, other roles, signatures and secrets must be denied"
  }

  assert {
    condition = alltrue([for policy in values(aws_iam_policy.ceiling) : [
      for statement in jsondecode(policy.policy).Statement : [statement.Effect, statement.Action, toset(statement.Resource)] if statement.Sid == "NoOwnIdentity"
      ] == [["Deny", "iam:*", toset([
        "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com",
        "arn:aws:iam::111122223333:policy/ai-infra-ci-*",
        "arn:aws:iam::111122223333:role/ai-infra-*-deploy",
        "arn:aws:iam::111122223333:role/ai-infra-ci-*",
    ])]]])
    error_message = "CI must not change its own roles, policies or provider"
  }

  assert {
    condition = { for environment, policy in aws_iam_policy.ceiling : environment => [for statement in jsondecode(policy.policy).Statement : statement.Condition if statement.Sid == "NoOtherEnvironment"] } == {
      for environment in ["dev", "prod"] : environment => [{ Null = { "aws:ResourceTag/environment" = "false" }, StringNotEquals = { "aws:ResourceTag/environment" = environment } }]
    }
    error_message = "what is tagged as another environment's must be out of reach, and what has no tag must not"
  }
}

run "what_is_kept_in_prod_is_destroyed_by_no_deployer" {
  command = plan

  assert {
    condition = { for environment, policy in aws_iam_policy.ceiling : environment => length(setsubtract(
      ["kms:ScheduleKeyDeletion", "s3:DeleteBucket", "rds:DeleteDBInstance", "backup:DeleteRecoveryPoint", "cloudtrail:StopLogging", "eks:DeleteCluster"],
      flatten([for statement in jsondecode(policy.policy).Statement : statement.Action if statement.Sid == "NeverDestroy" && statement.Effect == "Deny" && try(statement.Resource, "") == "*"]),
    )) } == { dev = 6, prod = 0 }
    error_message = "prod must keep its state whatever is deployed; dev must be destroyable"
  }
}

run "a_made_role_cannot_rule" {
  command = plan

  assert {
    condition = alltrue([for policy in values(aws_iam_policy.boundary) : length(setintersection(
      flatten([for statement in jsondecode(policy.policy).Statement : statement.Action if statement.Effect == "Allow"]),
      ["*", "iam:*", "sts:*", "sts:AssumeRole", "organizations:*", "cloudtrail:*", "iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy"],
    )) == 0])
    error_message = "the boundary must not hold administration"
  }

  assert {
    condition = alltrue([for policy in values(aws_iam_policy.boundary) : length(setsubtract(
      ["kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "s3:BypassGovernanceRetention", "s3:PutBucketPolicy", "s3:DeleteBucket*"],
      flatten([for statement in jsondecode(policy.policy).Statement : statement.Action if statement.Effect == "Deny" && try(statement.Resource, "") == "*" && !can(statement.Condition)]),
    )) == 0])
    error_message = "no workload may rule over keys and buckets"
  }

  assert {
    condition = alltrue([for policy in values(aws_iam_policy.boundary) : contains(
      flatten([for statement in jsondecode(policy.policy).Statement : statement.Resource if statement.Sid == "NoState" && statement.Effect == "Deny" && contains(flatten([statement.Action]), "s3:*")]),
      "arn:aws:s3:::ai-infra-state-111122223333/*",
    )])
    error_message = "no workload may read the state"
  }
}

run "policies_fit_into_iam" {
  command = plan

  # 6,144 characters is what IAM takes of a managed policy, white space aside.
  assert {
    condition     = { for name, policy in merge({ for e, p in aws_iam_policy.deploy : "deploy ${e}" => p }, { for e, p in aws_iam_policy.ceiling : "ceiling ${e}" => p }, { for e, p in aws_iam_policy.boundary : "boundary ${e}" => p }) : name => length(policy.policy) if length(policy.policy) > 6144 } == {}
    error_message = "a managed policy is longer than IAM takes"
  }
}
