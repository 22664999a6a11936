"""Addresses of stores and their keys: what is taken, and that nothing secret is told of what is not."""

from pathlib import Path

import pytest

from services.common.errors import StartError
from services.storage.remote.address import StoreAddress, StoreKey

KEYS = "[default]\naws_access_key_id = KEY\naws_secret_access_key = SECRET\n"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gcs://bucket/prefix", "no other is taken"),
        ("azblob://bucket", "no other is taken"),
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
    assert address == StoreAddress("bucket", "a/b c", "https://host:9000", "eu-1")
    assert address.place == "s3:https://host:9000/bucket/a/b c"
    assert StoreAddress.parse("s3://bucket?endpoint=http://host/").region == "us-east-1"
    for endpoint in ("http://[::1]:9000", "https://host.example"):
        assert StoreAddress.parse(f"s3://bucket?endpoint={endpoint}").endpoint == endpoint


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (KEYS, 0o644, "chmod 600"),
        (KEYS, 0o640, "chmod 600"),
        ("KEY:SECRET", 0o600, "lacks a section"),
        (KEYS + "aws_session_token = SECRET\n", 0o600, "lasting"),
    ],
)
def test_a_key_that_others_may_read_or_that_is_none_is_refused(
    tmp_path: Path, content: str, mode: int, said: str
) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(StartError, match=said):
        StoreKey.read(path)


def test_a_key_is_read_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text(KEYS)
    key = StoreKey.read(path)
    assert (key.access_key, key.secret) == ("KEY", "SECRET")
    assert "SECRET" not in repr(key)
