"""Addresses of stores and their keys: what is taken, and that nothing secret is told of what is not."""

import base64
from pathlib import Path

import pytest

from services.common.errors import StartError
from services.storage.volumes.remote.address import StoreAddress
from services.storage.volumes.remote.keys import StoreKey

KEYS = "[default]\naws_access_key_id = KEY\naws_secret_access_key = SECRET\n"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("b2://bucket/prefix", "no other is taken: of the rest none is known to have a write that replaces nothing"),
        ("webdav://host", "no other is taken"),
        ("azblob://container", "needs its endpoint"),
        ("azblob://container?endpoint=https://host/an/account", "nothing but a host"),
        ("azblob://container?endpoint=https://host/SECRET==", "nothing but a host"),
        ("azblob://container?endpoint=https://host&region=x", "address is azblob://CONTAINER"),
        ("azblob://container?endpoint=https://host&account_key=SECRET", "address is azblob://CONTAINER"),
        ("gcs://bucket?endpoint=https://host/account", "nothing but a host"),
        ("gcs://bucket?credential=SECRET", "address is gcs://BUCKET"),
        ("/a/folder", "no other is taken"),
        ("s3://bucket/prefix", "needs its endpoint"),
        ("s3://KEY:SECRET@bucket/prefix?endpoint=https://host", "OORT_STORE_KEY_FILE"),
        ("s3://bucket/prefix?endpoint=https://host&regoin=x", "an address|address is"),
        ("s3://bucket?endpoint=https://KEY:SECRET@host", "nothing but a host"),
        ("s3://bucket?endpoint=https://@host", "nothing but a host"),
        ("s3://bucket?endpoint=https://host/SECRET", "nothing but a host"),
        ("s3://bucket?endpoint=https://host%3Fkey=SECRET", "nothing but a host"),
        ("s3://bucket?endpoint=https://host%23SECRET", "nothing but a host"),
        ("s3://bucket?endpoint=https://", "nothing but a host"),
        ("s3://bucket?endpoint=https://host:port", "nothing but a host"),
        ("s3:///prefix?endpoint=https://host", "address is"),
        ("s3://bucket/../x?endpoint=https://host", r"no \. or \.\."),
    ],
)
def test_an_address_that_is_not_understood_is_refused_in_a_line_that_does_not_repeat_it(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refusal:
        StoreAddress.parse(url)
    assert "SECRET" not in str(refusal.value)


def test_an_address_says_where_bodies_lie() -> None:
    address = StoreAddress.parse("s3://bucket/a/b%20c/?endpoint=https://host:9000&region=eu-1")
    assert address == StoreAddress("s3", "bucket", "a/b c", "https://host:9000", "eu-1")
    assert address.place == "s3:https://host:9000/bucket/a/b c"
    assert StoreAddress.parse("s3://bucket?endpoint=http://host/").region == "us-east-1"
    for endpoint in ("http://[::1]:9000", "https://host.example"):
        assert StoreAddress.parse(f"s3://bucket?endpoint={endpoint}").endpoint == endpoint


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("azblob://name/a/b%20c?endpoint=https://account.blob.core.windows.net", ""),
        ("azblob://name?endpoint=http://127.0.0.1:10000/account", ""),
        ("gcs://name/a/b%20c", "https://storage.googleapis.com"),
        ("gcs://name/a?endpoint=https://host", ""),
    ],
)
def test_an_address_of_another_kind_is_told_as_it_is_given(url: str, endpoint: str) -> None:
    address = StoreAddress.parse(url)
    assert (address.container, address.place) == ("name", url)
    assert address.endpoint == (endpoint or url.partition("endpoint=")[2])
    assert address.settings["root"] == f"/{address.prefix}"
    assert "region" not in address.settings


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (KEYS, 0o644, "chmod 600"),
        (KEYS, 0o640, "chmod 600"),
        ("KEY:SECRET", 0o600, "lacks a section"),
        (KEYS + "aws_session_token = SECRET\n", 0o600, "lasting"),
        (KEYS.replace("SECRET", ""), 0o600, "nothing for one of aws_access_key_id and aws_secret_access_key"),
    ],
)
def test_a_key_that_others_may_read_or_that_is_none_is_refused(
    tmp_path: Path, content: str, mode: int, said: str
) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(StartError, match=said):
        StoreKey.read(path, "s3")


@pytest.mark.parametrize(
    ("scheme", "content", "said"),
    [
        ("azblob", KEYS, r"lacks a section \[azblob\] with account_name and account_key"),
        ("azblob", "[azblob]\naccount_name = account\naccount_key = SECRET!\n", "it is Base64"),
        (
            "azblob",
            "[azblob]\naccount_name = account\naccount_key =\n",
            "nothing for one of account_name and account_key",
        ),
        ("azblob", "[azblob]\naccount_name =\naccount_key = SECRETSECRET\n", "nothing for one of"),
        ("azblob", "[azblob]\naccount_name = account\naccount_key = SECRETSECRETQUJ=\n", "it is Base64"),
        ("gcs", "[gcs]\ncredential_file =\n", "nothing for one of credential_file"),
        ("gcs", "[gcs]\ncredential_file = half\n", "with a client_email and a private_key"),
        ("gcs", KEYS, r"lacks a section \[gcs\] with credential_file"),
        ("gcs", "[gcs]\ncredential_file = missing\n", "cannot read .*missing"),
        ("gcs", "[gcs]\ncredential_file = key\n", "no credential of Google's that lasts"),
        ("gcs", "[gcs]\ncredential_file = for-a-while\n", "no credential of Google's that lasts"),
        ("gcs", "[gcs]\ncredential_file = open\n", "others may read .*open: chmod 600"),
    ],
)
def test_each_kind_of_store_has_a_section_and_one_that_is_not_right_is_refused(
    tmp_path: Path, scheme: str, content: str, said: str
) -> None:
    for name, secret, mode in (
        ("key", content, 0o600),
        ("for-a-while", '{"type": "SECRET"}', 0o600),
        ("half", '{"type": "service_account", "client_email": "SECRET"}', 0o600),
        ("open", '{"type": "service_account"}', 0o644),
    ):
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(mode)
    with pytest.raises(StartError, match=said) as refusal:
        StoreKey.read(tmp_path / "key", scheme)
    assert "SECRET" not in str(refusal.value)


def test_a_key_is_read_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    google = '{"type": "service_account", "client_email": "a@b", "private_key": "SECRET"}'
    (tmp_path / "google.json").touch(0o600)
    (tmp_path / "google.json").write_text(google)
    path.write_text(
        f"{KEYS}[azblob]\naccount_name = account\naccount_key = U0VDUkVU\n[gcs]\ncredential_file = google.json\n"
    )
    for scheme, read in (
        ("s3", {"access_key_id": "KEY", "secret_access_key": "SECRET"}),
        ("azblob", {"account_name": "account", "account_key": "U0VDUkVU"}),
        ("gcs", {"credential": base64.b64encode(google.encode()).decode()}),
    ):
        key = StoreKey.read(path, scheme)
        assert key.settings == read
        assert not any(value in repr(key) for value in read.values())
