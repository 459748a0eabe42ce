"""Training: job specifications, recorded inputs, runs, their provenance, and the evaluator."""
