variable "account" {
  description = "AWS account, 12 digits. Any other account is refused."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account))
    error_message = "account must be the 12 digits of an AWS account."
  }
}

variable "region" {
  description = "Region of the state, and of the environments in this account."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^(af|ap|ca|eu|il|me|mx|sa|us)-[a-z]+-[1-9]$", var.region))
    error_message = "region must be a region of the partition aws, as eu-central-1."
  }
}

variable "replica_region" {
  description = "Region of prod's replicas, null without any: CI may write there too."
  type        = string
  default     = null

  validation {
    condition     = var.replica_region == null ? true : can(regex("^(af|ap|ca|eu|il|me|mx|sa|us)-[a-z]+-[1-9]$", var.replica_region))
    error_message = "replica_region must be a region of the partition aws, as eu-west-1, or null."
  }

  validation {
    condition     = var.replica_region != var.region
    error_message = "replica_region must not be the region itself: one disaster would take both."
  }
}

variable "environments" {
  description = "Environments that live in this account. An account of its own for prod is the strongest wall there is."
  type        = set(string)
  nullable    = false

  validation {
    condition     = length(var.environments) > 0 && length(setsubtract(var.environments, ["dev", "staging", "prod"])) == 0
    error_message = "environments must be one or more of dev, staging and prod."
  }
}

variable "github_repository" {
  description = "ORG/REPOSITORY whose workflows may take the CI roles."
  type        = string
  nullable    = false

  validation {
    # No wildcard, colon or slash more: it goes into the subject that the roles trust.
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$", var.github_repository))
    error_message = "github_repository must be ORG/REPOSITORY, without wildcards."
  }
}

variable "operator_role_arns" {
  description = "Roles of the people who run Pulumi by hand, to make or to destroy: with CI's deploy roles the only ones that may decrypt state and secrets."
  type        = set(string)
  nullable    = false

  validation {
    condition     = length(var.operator_role_arns) > 0
    error_message = "operator_role_arns must name one role or more: without any nobody could make the stacks, or mend them."
  }

  validation {
    condition     = alltrue([for arn in var.operator_role_arns : can(regex("^arn:aws:iam::${var.account}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "operator_role_arns must be ARNs of roles in this account, without wildcards."
  }
}

variable "state_noncurrent_days" {
  description = "Days that a superseded version of a state can be restored."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = var.state_noncurrent_days >= 90 && var.state_noncurrent_days <= 3650 && floor(var.state_noncurrent_days) == var.state_noncurrent_days
    error_message = "state_noncurrent_days must be a whole number from 90 to 3650: a lost state may be noticed late."
  }
}

variable "access_log_days" {
  description = "Days that the log of accesses to the state is kept."
  type        = number
  default     = 400
  nullable    = false

  validation {
    condition     = var.access_log_days >= 90 && var.access_log_days <= 3650 && floor(var.access_log_days) == var.access_log_days
    error_message = "access_log_days must be a whole number from 90 to 3650."
  }
}

variable "key_deletion_days" {
  description = "Days in which the deletion of a key can be taken back. A state without its key is lost."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.key_deletion_days >= 14 && var.key_deletion_days <= 30 && floor(var.key_deletion_days) == var.key_deletion_days
    error_message = "key_deletion_days must be a whole number from 14 to 30; KMS takes no more."
  }
}

variable "deploy_hours" {
  description = "Hours that one session of a deploy role lasts. A first `pulumi up` takes about one; a cluster's upgrade up to two."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.deploy_hours >= 1 && var.deploy_hours <= 4 && floor(var.deploy_hours) == var.deploy_hours
    error_message = "deploy_hours must be a whole number from 1 to 4."
  }
}

variable "tags" {
  description = "Who owns and who pays: team and cost_centre, as in the environments."
  type        = object({ team = string, cost_centre = string })
  nullable    = false

  validation {
    condition     = alltrue([for value in values(var.tags) : can(regex("^[A-Za-z0-9 _.:/=+@-]{1,256}$", value))])
    error_message = "tags.team and tags.cost_centre must be 1 to 256 characters that AWS takes in tags."
  }
}
