"""The API process's side of the signing proxy: HTTP over mTLS, answers turned into finished envelopes and into our errors."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import orjson

from services.core import dsse, keys, oms
from services.core.calls import Answer, Peer, error_in
from services.core.dsse import PAYLOAD_TYPE, Envelope, decode64, encode64
from services.core.errors import AiInfraError, Unavailable
from services.core.keys import BadSignature, PublicKey, Signature
from services.core.quorum import QuorumNotReached
from services.core.tls import Identity, client_context
from services.signing.errors import BadPayload, CheckpointRefused, KeyRefused, SignerUnavailable
from services.signing.ports import CheckpointState

ERRORS: Mapping[str, type[AiInfraError]] = {
    kind.__name__: kind for kind in (BadPayload, CheckpointRefused, KeyRefused, QuorumNotReached, SignerUnavailable)
}


class SigningClient:
    """Implements ports.SigningProxy. Safe in threads."""

    def __init__(self, proxy: Peer) -> None:
        self._proxy = proxy

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
        note: str = self._call("POST", "/v1/sign/checkpoint", body)["note"]
        return note

    def last_checkpoint(self, origin: str) -> CheckpointState | None:
        last = self._call("GET", f"/v1/checkpoint?{urlencode({'origin': origin})}")["last"]
        return None if last is None else CheckpointState(last["size"], decode64(last["root"]))

    def keys(self) -> Mapping[str, str]:
        found: dict[str, str] = self._call("GET", "/v1/keys")["keys"]
        return found

    def close(self) -> None:
        self._proxy.close()

    def _sign(self, path: str, body: dict[str, Any], payload: bytes) -> tuple[Signature, PublicKey]:
        answer = self._call("POST", path, body)
        signature = Signature(answer["keyid"], decode64(answer["signature"]))
        public_key = keys.load_public_pem(answer["publicKey"])
        try:
            keys.verify(public_key, dsse.pae(PAYLOAD_TYPE, payload), signature.sig)
        except BadSignature as error:
            raise SignerUnavailable("the signing proxy answered with a signature over something else") from error
        return signature, public_key

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            answer = self._proxy.ask(method, path, body)
        except Unavailable as error:
            raise SignerUnavailable(f"the signing proxy did not answer: {error}; is it running?") from error
        if answer.is_success:
            return orjson.loads(answer.content)
        raise _error(answer, path)


def open_client(base_url: str, identity: Identity, *, timeout_s: float = 10.0) -> SigningClient:
    """base_url: https://HOST:PORT; identity: the API process's; timeout_s: of one call, which waits for the log twice."""
    return SigningClient(Peer(base_url, client_context(identity), timeout_s=timeout_s))


def _error(answer: Answer, path: str) -> AiInfraError:
    """The proxy's own class where it is one of ours; otherwise by status, with every 503 a SignerUnavailable."""
    error = error_in(answer.status, answer.content, path)
    try:
        title = orjson.loads(answer.content)["title"]
    except (ValueError, KeyError, TypeError):
        title = ""
    if title in ERRORS:
        return ERRORS[title](str(error))
    return SignerUnavailable(str(error)) if isinstance(error, Unavailable) else error
