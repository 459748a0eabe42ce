"""Model families that a predictor can build from an artifact's own config.json. Code in an artifact is never executed."""
