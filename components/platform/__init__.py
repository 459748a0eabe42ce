"""Controllers of the cluster and what everybody in it shares, one component a file; none imports another, or one of `apps`."""
