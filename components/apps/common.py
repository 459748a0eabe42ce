"""What several services of ours are told in the same words: where trust, databases and objects are."""

from typing import Final

from pulumi import Input, Output

from components.apps.pod import ConfigFiles

TRUST: Final = "/etc/ai-infra/trust"
TRUST_MAP: Final = "trust"
TRUST_FILES: Final = {"trust.json": "trust.json", "database-ca.pem": "database-ca.pem"}


def trust_files() -> ConfigFiles:
    """A revocation in trust.json takes effect within a minute or two, without a restart."""
    return ConfigFiles(config_map=TRUST_MAP, items=TRUST_FILES)


def database_url(endpoint: Input[str], name: str, region: str) -> Output[str]:
    """A database, and the user of its name, who logs in by IAM. endpoint: HOST:PORT, whose certificate is checked."""
    checks = f"sslmode=verify-full&sslrootcert={TRUST}/database-ca.pem"
    return Output.concat(f"postgresql+psycopg://{name}@", endpoint, f"/{name}?{checks}&aws_region={region}")


def objects_url(store: Input[str], retention_days: int) -> Output[str]:
    """AI_INFRA_OBJECTS of everybody who reads or writes objects. store: a bucket."""
    return Output.concat("s3://", store, f"/objects?retention_days={retention_days}")
