"""The data plane: one process that owns the predictors, splits and proxies their traffic, and records every prediction."""
