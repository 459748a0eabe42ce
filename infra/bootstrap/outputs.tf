output "terraform_backend" {
  description = "Arguments of `terraform init -backend-config=` for this root."
  value       = { bucket = aws_s3_bucket.state.bucket, region = var.region, kms_key_id = aws_kms_key.state.arn }
}

output "pulumi_backend" {
  description = "Environment → URL for `pulumi login`."
  value       = { for environment in var.environments : environment => "s3://${aws_s3_bucket.state.bucket}/${environment}?region=${var.region}" }
}

output "pulumi_secrets_provider" {
  description = "Environment → secretsprovider of its stacks. An alias: a new key moves it, and no stack's configuration."
  value       = { for environment, alias in aws_kms_alias.secrets : environment => "awskms://${alias.name}?region=${var.region}" }
}

output "deploy_role_arns" {
  description = "Environment → variable AWS_DEPLOY_ROLE of the GitHub environment."
  value       = { for environment, role in aws_iam_role.deploy : environment => role.arn }
}

output "preview_role_arn" {
  description = "Role that a pull request's job may take to look at the account."
  value       = aws_iam_role.preview.arn
}

output "role_boundary_arns" {
  description = "Environment → permissions boundary that each role of the environment must have."
  value       = { for environment, policy in aws_iam_policy.boundary : environment => policy.arn }
}
