"""How an instance proves to the licence server who it is: its certificate chain and a signature of its key.

Kept true: a signature made for one purpose fits no other, and what TLS signs with the same key fits none of them.
"""

from collections.abc import Callable
from enum import StrEnum
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

Sign = Callable[[bytes], bytes]
_PSS = padding.PSS(padding.MGF1(SHA256()), SHA256.digest_size)


class Purpose(StrEnum):
    """What a signed LeaseRequest asks for."""

    ACQUIRE = "acquire"
    RELEASE = "release"


class BadKey(ValueError):
    """Only ECDSA, RSA and Ed25519 keys sign requests."""


def statement(purpose: Purpose, request: bytes) -> bytes:
    """The bytes that are signed for a serialized LeaseRequest."""
    return b"oort lease " + purpose.value.encode() + b" v1\0" + request


def installation_of(ca: x509.Certificate) -> str:
    """An installation's identity: SHA-256 of its CA's public key (DER SubjectPublicKeyInfo), hex."""
    return sha256(ca.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def signer(key_pem: bytes) -> Sign:
    """Signs with a private key: ECDSA and RSA-PSS over SHA-256, or Ed25519. Raises BadKey."""
    try:
        key = load_pem_private_key(key_pem, None)
    except (ValueError, TypeError) as error:
        raise BadKey(f"not an unencrypted private key in PEM: {error}") from error
    if isinstance(key, ec.EllipticCurvePrivateKey):
        curve_key = key
        return lambda message: curve_key.sign(message, ec.ECDSA(SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        rsa_key = key
        return lambda message: rsa_key.sign(message, _PSS, SHA256())
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign
    raise BadKey(f"{type(key).__name__} cannot sign requests")


def is_signed_by(certificate: x509.Certificate, message: bytes, signature: bytes) -> bool:
    """Whether the certificate's key made `signature` over `message`."""
    key = certificate.public_key()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, _PSS, SHA256())
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            return False
    except InvalidSignature:
        return False
    return True
