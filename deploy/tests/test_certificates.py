"""The certificate authority of an installation."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from deploy.local.certificates import RENEW_BEFORE, CertificateAuthority

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_an_instance_is_named_by_its_uri_beside_its_hosts(tmp_path: Path) -> None:
    files = CertificateAuthority.open(tmp_path, NOW).certificate("storage", "node-a", NOW)
    names = _read(files.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["oort://storage/node-a"]
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1"}


def test_all_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    CertificateAuthority.open(folder, NOW).certificate("auth", "auth-1", NOW)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_authority_stays_the_same_and_certificates_are_renewed_only_near_their_end(tmp_path: Path) -> None:
    first = CertificateAuthority.open(tmp_path, NOW)
    made = first.certificate("auth", "auth-1", NOW).certificate.read_bytes()
    again = CertificateAuthority.open(tmp_path, NOW + timedelta(days=30))
    assert again.ca.read_bytes() == first.ca.read_bytes()
    assert again.certificate("auth", "auth-1", NOW + timedelta(days=30)).certificate.read_bytes() == made
    late = NOW + timedelta(days=397) - RENEW_BEFORE + timedelta(days=1)
    assert again.certificate("auth", "auth-1", late).certificate.read_bytes() != made


def test_a_certificate_whose_key_is_another_is_made_again(tmp_path: Path) -> None:
    authority = CertificateAuthority.open(tmp_path, NOW)
    files = authority.certificate("auth", "auth-1", NOW)
    files.key.write_bytes(authority.certificate("auth", "auth-2", NOW).key.read_bytes())
    before = files.certificate.read_bytes()
    assert authority.certificate("auth", "auth-1", NOW).certificate.read_bytes() != before
