"""Data sets, artifacts, model versions, lineage, flags and promotion: the platform's record of what may run where."""
