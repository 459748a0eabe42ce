# Each limit: one value beyond it is refused, by the variable's own message. What lies just within is taken.

mock_provider "aws" {
  source          = "./mocks"
  override_during = plan
}

variables {
  account            = "111122223333"
  region             = "eu-central-1"
  environments       = ["dev"]
  github_repository  = "example/models"
  operator_role_arns = ["arn:aws:iam::111122223333:role/platform-operator"]
  tags               = { team = "platform", cost_centre = "1200" }
}

run "what_lies_just_within_the_limits_is_taken" {
  command = plan

  variables {
    replica_region        = "eu-west-1"
    environments          = ["dev", "staging", "prod"]
    state_noncurrent_days = 90
    access_log_days       = 90
    key_deletion_days     = 14
    deploy_hours          = 4
  }

  assert {
    condition     = [for role in values(aws_iam_role.deploy) : role.max_session_duration] == [14400, 14400, 14400]
    error_message = "each environment must have a deploy role, with sessions of deploy_hours"
  }
}

run "account_must_be_twelve_digits" {
  command         = plan
  expect_failures = [var.account]

  variables {
    account = "1111-2222-3333"
  }
}

run "account_must_not_be_short" {
  command         = plan
  expect_failures = [var.account]

  variables {
    account = "11112222333"
  }
}

run "region_must_be_one_of_the_partition" {
  command         = plan
  expect_failures = [var.region]

  variables {
    region = "cn-north-1"
  }
}

run "region_must_not_be_a_zone" {
  command         = plan
  expect_failures = [var.region]

  variables {
    region = "eu-central-1a"
  }
}

run "replica_region_must_be_a_region" {
  command         = plan
  expect_failures = [var.replica_region]

  variables {
    replica_region = "frankfurt"
  }
}

run "replica_region_must_be_another_one" {
  command         = plan
  expect_failures = [var.replica_region]

  variables {
    replica_region = "eu-central-1"
  }
}

run "some_environment_must_be_named" {
  command         = plan
  expect_failures = [var.environments]

  variables {
    environments = []
  }
}

run "environments_must_be_known" {
  command         = plan
  expect_failures = [var.environments]

  variables {
    environments = ["dev", "production"]
  }
}

run "repository_must_not_have_a_wildcard" {
  command         = plan
  expect_failures = [var.github_repository]

  variables {
    github_repository = "example/*"
  }
}

run "repository_must_not_extend_the_subject" {
  command         = plan
  expect_failures = [var.github_repository]

  variables {
    github_repository = "example/models:environment"
  }
}

run "repository_must_have_its_owner" {
  command         = plan
  expect_failures = [var.github_repository]

  variables {
    github_repository = "models"
  }
}

run "some_operator_must_be_named" {
  command         = plan
  expect_failures = [var.operator_role_arns]

  variables {
    operator_role_arns = []
  }
}

run "operators_must_be_of_this_account" {
  command         = plan
  expect_failures = [var.operator_role_arns]

  variables {
    operator_role_arns = ["arn:aws:iam::999999999999:role/platform-operator"]
  }
}

run "operators_must_not_have_wildcards" {
  command         = plan
  expect_failures = [var.operator_role_arns]

  variables {
    operator_role_arns = ["arn:aws:iam::111122223333:role/*"]
  }
}

run "the_account_itself_is_no_operator" {
  command         = plan
  expect_failures = [var.operator_role_arns]

  variables {
    operator_role_arns = ["arn:aws:iam::111122223333:root"]
  }
}

run "superseded_states_must_be_kept_90_days" {
  command         = plan
  expect_failures = [var.state_noncurrent_days]

  variables {
    state_noncurrent_days = 89
  }
}

run "superseded_states_must_end_some_time" {
  command         = plan
  expect_failures = [var.state_noncurrent_days]

  variables {
    state_noncurrent_days = 3651
  }
}

run "superseded_states_must_be_kept_whole_days" {
  command         = plan
  expect_failures = [var.state_noncurrent_days]

  variables {
    state_noncurrent_days = 90.5
  }
}

run "access_logs_must_be_kept_90_days" {
  command         = plan
  expect_failures = [var.access_log_days]

  variables {
    access_log_days = 89
  }
}

run "access_logs_must_end_some_time" {
  command         = plan
  expect_failures = [var.access_log_days]

  variables {
    access_log_days = 3651
  }
}

run "access_logs_must_be_kept_whole_days" {
  command         = plan
  expect_failures = [var.access_log_days]

  variables {
    access_log_days = 90.5
  }
}

run "key_deletion_must_be_long_to_take_back" {
  command         = plan
  expect_failures = [var.key_deletion_days]

  variables {
    key_deletion_days = 13
  }
}

run "key_deletion_must_be_what_kms_takes" {
  command         = plan
  expect_failures = [var.key_deletion_days]

  variables {
    key_deletion_days = 31
  }
}

run "key_deletion_must_be_whole_days" {
  command         = plan
  expect_failures = [var.key_deletion_days]

  variables {
    key_deletion_days = 14.5
  }
}

run "sessions_must_last_an_hour" {
  command         = plan
  expect_failures = [var.deploy_hours]

  variables {
    deploy_hours = 0
  }
}

run "sessions_must_not_last_a_working_day" {
  command         = plan
  expect_failures = [var.deploy_hours]

  variables {
    deploy_hours = 5
  }
}

run "sessions_must_last_whole_hours" {
  command         = plan
  expect_failures = [var.deploy_hours]

  variables {
    deploy_hours = 1.5
  }
}

run "team_must_not_be_empty" {
  command         = plan
  expect_failures = [var.tags]

  variables {
    tags = { team = "", cost_centre = "1200" }
  }
}

run "cost_centre_must_be_what_aws_takes" {
  command         = plan
  expect_failures = [var.tags]

  variables {
    tags = { team = "platform", cost_centre = "12;00" }
  }
}
