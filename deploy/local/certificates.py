"""The installation's certificate authority, and a certificate for each instance of each role.

Kept true: the CA's key is the identity of the installation, made once and never replaced; an instance is named by the
URI `oort://<role>/<instance>` in its certificate (SPIFFE's idea of an identity, RFC 5280 section 4.2.1.6); all files
are for their owner alone. Keys are P-256: the TLS of gRPC (BoringSSL) takes no Ed25519 certificates by default.
"""

import ipaddress
import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=397)
RENEW_BEFORE = LIFETIME / 3
# A certificate is valid from a little before it was made, for machines whose clocks differ.
_CLOCK_DIFFERENCE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Two PEM files, 0600: the certificate and its private key."""

    certificate: Path
    key: Path


class CertificateAuthority:
    """The CA of one installation, in a folder: `ca.pem`, `ca.key`, and `<role>-<instance>.pem` and `.key`."""

    def __init__(self, folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.folder = folder
        self._key = key
        self._certificate = certificate

    @classmethod
    def open(cls, folder: Path, now: datetime) -> "CertificateAuthority":
        """Load the CA, or make one in a folder that has none. `now` is aware."""
        folder = folder.absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_file, certificate_file = folder / "ca.key", folder / "ca.pem"
        # The key is written first: a crash in between is repaired here with the same key.
        if key_file.exists():
            key = _load_key(key_file)
        else:
            key = ec.generate_private_key(ec.SECP256R1())
            _write(key_file, _key_pem(key))
        if not certificate_file.exists():
            _write(certificate_file, _self_signed(key, now).public_bytes(serialization.Encoding.PEM))
        return cls(folder, key, x509.load_pem_x509_certificate(certificate_file.read_bytes()))

    @property
    def ca(self) -> Path:
        """The CA's certificate, PEM: what clients are given to trust."""
        return self.folder / "ca.pem"

    def certificate(self, role: str, instance: str, now: datetime) -> Certificate:
        """The certificate of one instance: made when there is none, or renewed when it nears its end."""
        stem = f"{role}-{instance}"
        files = Certificate(self.folder / f"{stem}.pem", self.folder / f"{stem}.key")
        if not self._is_good(files, now):
            key = ec.generate_private_key(ec.SECP256R1())
            _write(files.key, _key_pem(key))
            signed = self._sign(key.public_key(), f"oort://{role}/{instance}", now)
            _write(files.certificate, signed.public_bytes(serialization.Encoding.PEM))
        return files

    def _is_good(self, files: Certificate, now: datetime) -> bool:
        """Whether both files are there, belong together, and last for a while."""
        try:
            certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
            key = _load_key(files.key)
        except (FileNotFoundError, ValueError):
            return False
        lasts = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc - RENEW_BEFORE
        return (
            lasts and certificate.issuer == self._certificate.subject and certificate.public_key() == key.public_key()
        )

    def _sign(self, key: ec.EllipticCurvePublicKey, uri: str, now: datetime) -> x509.Certificate:
        hosts = dict.fromkeys(["localhost", *([host] if _is_dns_name(host := socket.gethostname()) else [])])
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri), *map(x509.DNSName, hosts)]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
        return (
            x509.CertificateBuilder()
            .subject_name(_name(uri.removeprefix("oort://")))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_DIFFERENCE)
            .not_valid_after(min(now + LIFETIME, self._certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # The key's own digest in the name tells two installations' CAs apart in error messages and trust stores.
    name = _name(f"Oort installation {identifier.digest.hex()[:16]}")
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_DIFFERENCE)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    # RFC 5280 bounds a common name to 64 characters.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _is_dns_name(host: str) -> bool:
    return bool(host) and host.isascii() and all(part.replace("-", "").isalnum() for part in host.split("."))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} holds no elliptic-curve key")  # noqa: TRY004 - the content is wrong, not a type
    return key


def _write(path: Path, body: bytes) -> None:
    """Write a private file whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
