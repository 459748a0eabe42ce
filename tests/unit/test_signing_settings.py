"""The signing proxy's settings: which key lives where."""

from pathlib import Path

import pytest

from services.core.errors import BadSetting
from services.signing.settings import Settings

HOME = {"AI_INFRA_HOME": "/home/x"}
TRANSIT = {f"AI_INFRA_KEY_{name}": f"transit/{name.lower()}:1" for name in ("BUILDER", "EVALUATOR", "SENTINELNET")}


def test_keys_are_files_of_the_home_unless_somebody_says_otherwise() -> None:
    found = Settings.from_env(HOME)
    assert set(found.signers.values()) == {"keyfile"}
    assert found.keys["audit"] == str(Path("/home/x/signing/keys/audit.pem"))


def test_each_key_may_live_in_a_backend_of_its_own() -> None:
    own = {"AI_INFRA_MANIFEST_SIGNER": "awskms", "AI_INFRA_AUDIT_SIGNER": "awskms"}
    named = {"AI_INFRA_KEY_MANIFEST": "alias/m", "AI_INFRA_KEY_AUDIT": "alias/a"}
    found = Settings.from_env(HOME | {"AI_INFRA_SIGNER": "vault"} | TRANSIT | own | named)
    assert found.signers == {
        "builder": "vault", "evaluator": "vault", "sentinelnet": "vault", "manifest": "awskms", "audit": "awskms",
    }  # fmt: skip
    assert found.keys["manifest"] == "alias/m"


def test_a_key_that_is_no_file_must_be_named() -> None:
    with pytest.raises(BadSetting, match="AI_INFRA_KEY_AUDIT"):
        Settings.from_env(HOME | {"AI_INFRA_AUDIT_SIGNER": "awskms"})
