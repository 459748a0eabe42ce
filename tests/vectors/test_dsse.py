"""DSSE: the protocol's own vector, and envelopes that our code and securesystemslib read alike."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from securesystemslib.dsse import Envelope as ForeignEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from services.core import dsse, keys
from services.core.dsse import Envelope
from services.core.keys import PrivateKey, Signature

# https://github.com/secure-systems-lab/dsse/blob/master/protocol.md, "Test Vectors"
TYPE, PAYLOAD = "http://example.com/HelloWorld", b"hello world"
PAE = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
D = 97358161215184420915383655311931858321456579547487070936769975997791359926199
X = 46950820868899156662930047687818585632848591499744589407958293238635476079160
Y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
JSON = json.dumps(
    {
        "payload": "aGVsbG8gd29ybGQ=",
        "payloadType": TYPE,
        "signatures": [{"sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}],
    }
)


def test_the_protocols_vector() -> None:
    held, private = dsse.parse(JSON.encode()), ec.derive_private_key(D, ec.SECP256R1())
    public = private.public_key()
    assert (public.public_numbers().x, public.public_numbers().y) == (X, Y)
    assert (held.payload_type, held.payload, dsse.pae(TYPE, PAYLOAD)) == (TYPE, PAYLOAD, PAE)
    # Its signature is r || s, which our envelopes do not take; as DER it is one of this key over these bytes.
    raw = held.signatures[0].sig
    assert dsse.verified_signers(held, {"key": public}) == set()
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    assert dsse.verified_signers(Envelope(TYPE, PAYLOAD, (Signature("", der),)), {"key": public}) == {keys.signer_id(public)}
    assert decode_dss_signature(der)[0] == int.from_bytes(raw[:32], "big")


@pytest.mark.parametrize("kind", ["", "a", TYPE, "typ\u00e9", "with a space"])
@pytest.mark.parametrize("payload", [b"", b" ", b"1 2", b"\x00\xff", b"hello world"], ids=repr)
def test_the_encoding_is_securesystemslibs(kind: str, payload: bytes) -> None:
    assert dsse.pae(kind, payload) == ForeignEnvelope(payload, kind, {}).pae()


@pytest.mark.parametrize("make", [keys.generate_p256, keys.generate_ed25519])
@pytest.mark.parametrize("change", ["nothing", "payload", "type", "signature"])
def test_ours_and_securesystemslib_take_and_refuse_the_same(make: Any, change: str) -> None:
    private: PrivateKey = make()
    signature = dsse.sign(b"{}", private)
    held = {
        "nothing": Envelope(dsse.PAYLOAD_TYPE, b"{}", (signature,)),
        "payload": Envelope(dsse.PAYLOAD_TYPE, b"[]", (signature,)),
        "type": Envelope("text/plain", b"{}", (signature,)),
        "signature": Envelope(dsse.PAYLOAD_TYPE, b"{}", (signature._replace(sig=dsse.sign(b"[]", private).sig),)),
    }[change]
    public = private.public_key()
    assert bool(dsse.verified_signers(held, {"key": public})) is (change == "nothing")
    foreign = ForeignEnvelope.from_dict(held.to_json())
    key = SSlibKey.from_crypto(public, keyid=signature.keyid)
    if change == "nothing":
        assert set(foreign.verify([key], 1)) == {signature.keyid}
    else:
        with pytest.raises(VerificationError):
            foreign.verify([key], 1)
