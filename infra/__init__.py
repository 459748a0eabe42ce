"""The Pulumi program, and the tools that judge what it makes without a cloud. It joins `components` as `stacks` says."""
