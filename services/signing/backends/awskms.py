"""AWS KMS with an ECC_NIST_P256 key; the private key never leaves KMS. It makes no keys and sets no key policy.

We hash and send the digest: KMS refuses messages over 4,096 bytes, and statements are longer.
"""

import hashlib
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.core.keys import PublicKey, Signature, signer_id
from services.signing.errors import KeyRefused, SignerUnavailable
from services.signing.ports import Signer

PRODUCTION = True
ALGORITHM = "ECDSA_SHA_256"
# https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html#API_Sign_Errors; the rest is retried by the caller.
REFUSALS = frozenset(
    {
        "AccessDeniedException",
        "DisabledException",
        "IncorrectKeyException",
        "InvalidGrantTokenException",
        "InvalidKeyUsageException",
        "KMSInvalidStateException",
        "NotFoundException",
        "UnrecognizedClientException",
        "UnsupportedOperationException",
        "ValidationException",
    }
)


class KmsSigner:
    """client: a boto3 KMS client; key: key id, ARN or alias."""

    def __init__(self, client: Any, key: str) -> None:
        self._client, self._key = client, key

    def sign(self, payload: bytes) -> Signature:
        answer = self._call(
            "sign",
            Message=hashlib.sha256(payload).digest(),
            MessageType="DIGEST",
            SigningAlgorithm=ALGORITHM,
        )
        return Signature(signer_id(self.public_key()), answer["Signature"])

    def public_key(self) -> PublicKey:
        return self._public_key

    @cached_property
    def _public_key(self) -> PublicKey:
        # A KMS key's material never changes, so it is fetched once.
        key = serialization.load_der_public_key(self._call("get_public_key")["PublicKey"])
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise KeyRefused(f"KMS key {self._key} is not of spec ECC_NIST_P256")
        return key

    def _call(self, operation: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, operation)(KeyId=self._key, **arguments)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in REFUSALS:
                raise KeyRefused(f"KMS key {self._key}: {code}; enable it, or allow kms:Sign to this role") from error
            raise SignerUnavailable(f"KMS key {self._key}: {code}") from error
        except BotoCoreError as error:
            raise SignerUnavailable(f"KMS did not answer for key {self._key}: {type(error).__name__}") from error


def open_signer(key: str, timeout_s: float) -> Signer:
    """key: key id, ARN or alias/NAME; region, credentials and endpoint come from the environment, as AWS tools take them."""
    import boto3
    from botocore.config import Config

    limits = Config(connect_timeout=timeout_s, read_timeout=timeout_s, retries={"total_max_attempts": 2, "mode": "standard"})
    return KmsSigner(boto3.client("kms", config=limits), key)
