terraform {
  # 1.11 is the first release whose S3 backend locks without a table.
  required_version = ">= 1.11, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0" # the provider inside pulumi-aws 6.83.0: one judge for both programs
    }
  }

  # The state of this root lies in the bucket that it makes. The first apply has no bucket yet and keeps it in a local file: see README.md.
  # The lock is an object beside the state, written with If-None-Match: no DynamoDB table.
  backend "s3" {
    key          = "bootstrap/terraform.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}
