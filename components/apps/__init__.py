"""What users run in the cluster, one component a file; none imports another, or one of `platform`."""
