"""Certificate authorities of several installations, good ones and bad ones."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_LIFE = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Authority:
    """An installation's CA; its files lie in `folder`. Serves where the fixture `installation` does."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    own: x509.Certificate

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def certificate(self, role: str, instance: str) -> tuple[Path, Path]:
        """Certificate and key of one instance, as files."""
        return self.issue(f"oort://{role}/{instance}", name=f"{role}-{instance}")

    def issue(
        self,
        *uris: str,
        name: str = "other",
        begins: datetime | None = None,
        life: timedelta = _LIFE,
        is_ca: bool = False,
    ) -> tuple[Path, Path]:
        """A certificate for `localhost` with any URI SANs; valid from `begins`, by default since a day."""
        key = ec.generate_private_key(ec.SECP256R1())
        begins = begins or datetime.now(UTC) - timedelta(days=1)
        names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
        names += [x509.UniformResourceIdentifier(uri) for uri in uris]
        made = (
            _builder(name, self.own.subject, key, begins, life, is_ca=is_ca)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, SHA256())
        )
        files = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        files[0].write_bytes(made.public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files


def a_certificate_authority(folder: Path, begins: datetime | None = None, life: timedelta = 10 * _LIFE) -> Authority:
    """A new installation's CA, with its `ca.pem` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    begins = begins or datetime.now(UTC) - timedelta(days=1)
    subject = _name("CA of tests")
    own = _builder("CA of tests", subject, key, begins, life, is_ca=True).sign(key, SHA256())
    authority = Authority(folder, key, own)
    authority.ca.write_bytes(own.public_bytes(Encoding.PEM))
    return authority


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, life: timedelta, *, is_ca: bool
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + life)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
