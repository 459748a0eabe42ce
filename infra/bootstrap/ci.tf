# CI's identities. GitHub signs who a job is; AWS gives it a role for an hour or two. No key is stored anywhere.

locals {
  issuer = "token.actions.githubusercontent.com"
}

resource "aws_iam_openid_connect_provider" "github" {
  url            = "https://${local.issuer}"
  client_id_list = ["sts.amazonaws.com"]
}

# Preview: any pull request of the repository, so whoever can push a branch. It sees how things are set, never what is in them.
# The preview workflow itself needs no role: it compares program with program. This one is for looking at the account beside it.

resource "aws_iam_role" "preview" {
  name                 = "ai-infra-ci-preview"
  description          = "Pull requests of ${var.github_repository}: reads settings, no data, no secrets"
  assume_role_policy   = jsonencode(local.trusts["preview"])
  max_session_duration = 3600
}

resource "aws_iam_role_policy_attachment" "preview" {
  role       = aws_iam_role.preview.name
  policy_arn = "arn:aws:iam::aws:policy/SecurityAudit"
}

resource "aws_iam_role_policy" "preview" {
  name   = "no-data"
  role   = aws_iam_role.preview.name
  policy = jsonencode(local.no_data)
}

# Deploy: one an environment. GitHub puts the environment into the token only when its protection rules have let the job pass, so
# reviewers and permitted branches of the GitHub environment are part of this wall: see deployment.md.

resource "aws_iam_role" "deploy" {
  for_each = var.environments

  name                 = "ai-infra-${each.key}-deploy"
  description          = "Deployments of ${var.github_repository} to ${each.key}"
  assume_role_policy   = jsonencode(local.trusts[each.key])
  max_session_duration = var.deploy_hours * 3600
  permissions_boundary = aws_iam_policy.ceiling[each.key].arn
  tags                 = { environment = each.key }
}

resource "aws_iam_policy" "deploy" {
  for_each = var.environments

  name        = "ai-infra-ci-deploy-${each.key}"
  description = "What deployments to ${each.key} do"
  policy      = jsonencode(local.deploy_policies[each.key])
  tags        = { environment = each.key }
}

resource "aws_iam_role_policy_attachment" "deploy" {
  for_each = var.environments

  role       = aws_iam_role.deploy[each.key].name
  policy_arn = aws_iam_policy.deploy[each.key].arn
}

resource "aws_iam_policy" "ceiling" {
  for_each = var.environments

  name        = "ai-infra-ci-ceiling-${each.key}"
  description = "What deployments to ${each.key} can never do, whatever policy they get"
  policy      = jsonencode(local.ceilings[each.key])
  tags        = { environment = each.key }
}

resource "aws_iam_policy" "boundary" {
  for_each = var.environments

  name        = "ai-infra-ci-boundary-${each.key}"
  description = "The most that a role made by deployments to ${each.key} can do"
  policy      = jsonencode(local.boundaries[each.key])
  tags        = { environment = each.key }
}
