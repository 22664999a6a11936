"""Every format that servers read, beside those of the client (client/testing/formats.py)."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from oort.storage.v1 import objects_pb2

from client.testing import formats as client_formats
from client.testing.formats import Format
from client.testing.mutation import mutate_bytes, mutate_json, mutate_keys
from domain.sessions import Scope
from domain.tokens import ALGORITHM, AUDIENCE, ISSUER, VaultClaims, key_id
from services.common.testing.clock import ManualClock
from services.storage.access.gate import TokenGate
from services.storage.errors import BadToken
from services.storage.transfer.frames import get_body, get_message, put_frames, read_put

_BINARY = (mutate_bytes,)
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_KID = key_id(_KEY.public_key().public_bytes_raw())
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_GATE = TokenGate({_KID: _KEY.public_key()}, "main", ManualClock(_NOW))
_ID = UUID(int=7)
_CLAIMS = VaultClaims(_ID, _ID, _ID, _ID, "main", frozenset({Scope.READ, Scope.APPEND}), 1 << 40, bytes(32))
_PAYLOAD = _CLAIMS.to_payload() | {"iss": ISSUER, "aud": AUDIENCE, "exp": int(_NOW.timestamp()) + 900}
_SIGNER = jwt.PyJWS()


def _read_claims(body: bytes) -> None:
    """Bytes that auth has signed: whatever they are, the gate takes them as claims or refuses them."""
    claims = _GATE.read(_SIGNER.encode(body, _KEY, algorithm=ALGORITHM, headers={"kid": _KID}))
    if claims.cluster != "main" or claims.quota_bytes < 0:
        raise AssertionError("claims that must not count")


def _read_token(body: bytes) -> None:
    """The first two parts of a token are documents in base64url: they are here as they are before that."""
    header, _, rest = body.partition(b"\n")
    encoded = jwt.utils.base64url_encode(header).decode()
    _GATE.read(f"{encoded}.{rest.decode('latin-1')}")


def _frame_reader(read: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def checked(body: bytes) -> None:
        found = read(body)
        if isinstance(found, memoryview) and bytes(found) not in body:
            raise AssertionError("a frame holds what did not come")

    return checked


def _read_put(body: bytes) -> None:
    """What is taken for a frame without the generated class is one to that class too."""
    frame = read_put(body)
    if frame is not None and bytes(frame.body) != objects_pb2.PutRequest.FromString(body).frame:
        raise AssertionError("a frame is read otherwise than the generated class reads it")


_TOKEN = _SIGNER.encode(json.dumps(_PAYLOAD).encode(), _KEY, algorithm=ALGORITHM, headers={"kid": _KID})
_HEADER, _, _REST = _TOKEN.partition(".")

SERVERS = (
    Format("token-claims", _read_claims, [json.dumps(_PAYLOAD).encode()], (BadToken,)),
    Format(
        "token",
        _read_token,
        [jwt.utils.base64url_decode(_HEADER) + b"\n" + _REST.encode()],
        (BadToken,),
        (
            mutate_bytes,
            mutate_keys,
            lambda random, body: _with_header(mutate_json(random, body.partition(b"\n")[0]), body),
        ),
    ),
    Format("put-request", _read_put, [next(put_frames(b"body" * 50)).message], (), _BINARY),
    Format("node-frame", _frame_reader(get_body), [get_message(b"body" * 50)], (ValueError,), _BINARY),
)


def _with_header(header: bytes, body: bytes) -> bytes:
    return header + b"\n" + body.partition(b"\n")[2]


def _read_planted(body: bytes) -> None:
    if body[:1] == b"{" and body.count(b"}") > 1:
        raise ZeroDivisionError


# A reader with a fault: a campaign that does not find it finds nothing.
PLANTED = Format("planted", _read_planted, [b"{}"], ())
FORMATS = (*client_formats.FORMATS, *SERVERS)
