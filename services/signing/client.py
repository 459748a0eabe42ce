"""The API process's side of the signing proxy: HTTP over mTLS, answers turned into finished envelopes and into our errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from services.core import dsse, keys, oms
from services.core.calls import client as http_client
from services.core.calls import error_of
from services.core.dsse import PAYLOAD_TYPE, Envelope, decode64, encode64
from services.core.errors import AiInfraError, Unavailable
from services.core.keys import BadSignature, PublicKey, Signature
from services.core.quorum import QuorumNotReached
from services.core.tls import Identity
from services.signing.errors import BadPayload, CheckpointRefused, KeyRefused, SignerUnavailable
from services.signing.ports import CheckpointState

ERRORS: Mapping[str, type[AiInfraError]] = {
    kind.__name__: kind for kind in (BadPayload, CheckpointRefused, KeyRefused, QuorumNotReached, SignerUnavailable)
}


class SigningClient:
    """Implements ports.SigningProxy. Safe in threads, as httpx.Client is."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def sign_statement(self, key: str, payload: bytes, evidence: Mapping[str, bytes], actor: str) -> bytes:
        body = {
            "key": key,
            "payload": encode64(payload),
            "evidence": {name: encode64(data) for name, data in evidence.items()},
            "onBehalfOf": actor,
        }
        signature, _ = self._sign("/v1/sign/statement", body, payload)
        return Envelope(PAYLOAD_TYPE, payload, (signature,)).to_bytes()

    def sign_model(self, key: str, payload: bytes, actor: str) -> bytes:
        body = {"key": key, "payload": encode64(payload), "onBehalfOf": actor}
        signature, public_key = self._sign("/v1/sign/model", body, payload)
        return oms.bundle(payload, signature, public_key)

    def sign_checkpoint(self, *, origin: str, size: int, root: bytes, proof: Sequence[bytes]) -> str:
        body = {"origin": origin, "size": size, "root": encode64(root), "proof": [encode64(item) for item in proof]}
        note: str = self._call("POST", "/v1/sign/checkpoint", json=body)["note"]
        return note

    def last_checkpoint(self, origin: str) -> CheckpointState | None:
        last = self._call("GET", "/v1/checkpoint", params={"origin": origin})["last"]
        return None if last is None else CheckpointState(last["size"], decode64(last["root"]))

    def keys(self) -> Mapping[str, str]:
        found: dict[str, str] = self._call("GET", "/v1/keys")["keys"]
        return found

    def close(self) -> None:
        self._client.close()

    def _sign(self, path: str, body: dict[str, Any], payload: bytes) -> tuple[Signature, PublicKey]:
        answer = self._call("POST", path, json=body)
        signature = Signature(answer["keyid"], decode64(answer["signature"]))
        public_key = keys.load_public_pem(answer["publicKey"])
        try:
            keys.verify(public_key, dsse.pae(PAYLOAD_TYPE, payload), signature.sig)
        except BadSignature as error:
            raise SignerUnavailable("the signing proxy answered with a signature over something else") from error
        return signature, public_key

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._client.request(method, path, **options)
        except httpx.TransportError as error:
            raise SignerUnavailable(f"the signing proxy did not answer: {type(error).__name__}; is it running?") from error
        if response.is_success:
            return response.json()
        raise _error(response)


def open_client(base_url: str, identity: Identity, *, timeout_s: float = 10.0) -> SigningClient:
    """base_url: https://HOST:PORT; identity: the API process's; timeout_s: of one call, which waits for the log twice."""
    return SigningClient(http_client(base_url, identity, timeout_s=timeout_s))


def _error(response: httpx.Response) -> AiInfraError:
    """The proxy's own class where it is one of ours; otherwise by status, with every 503 a SignerUnavailable."""
    error = error_of(response)
    try:
        title = response.json()["title"]
    except (ValueError, KeyError, TypeError):
        title = ""
    if title in ERRORS:
        return ERRORS[title](str(error))
    return SignerUnavailable(str(error)) if isinstance(error, Unavailable) else error
