"""What a store's bucket is called. Plain, so that the layers in the cluster know the name before the bucket is there."""


def store_name(environment: str, account: str, store: str) -> str:
    """With the account: all the world's buckets share one space of names, and without it a stranger may have taken ours."""
    return f"ai-infra-{environment}-{account}-{store}"
