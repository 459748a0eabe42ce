"""The real router and predictors, with faults planted around KServe's application: what a canary campaign must find.

    python -m benchmarks.planted.router         the router process; its fork server runs
    python -m benchmarks.planted.predictor      the predictors, each with the plant that its home names for its version
"""
