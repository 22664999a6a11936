import json

import pytest

from client.errors import UsageError
from client.stores.cloud import Location


@pytest.mark.parametrize(
    ("address", "place", "region"),
    [
        (
            "https://minio.example:9000/backups/me/laptop",
            "s3:https://minio.example:9000/backups/me/laptop",
            "us-east-1",
        ),
        ("s3.example/backups", "s3:https://s3.example/backups", "us-east-1"),
        ("s3:http://127.0.0.1:9000/b/p/", "s3:http://127.0.0.1:9000/b/p", "us-east-1"),
        ("s3.eu-central-1.amazonaws.com/b/p", "s3:https://s3.eu-central-1.amazonaws.com/b/p", "eu-central-1"),
    ],
)
def test_an_address_of_s3_is_told_as_restic_takes_it(address: str, place: str, region: str) -> None:
    location = Location.of_s3(address)
    assert location.place == place
    assert location.settings["region"] == region
    assert Location.of_s3(place).place == place


def test_a_region_that_is_given_counts() -> None:
    assert Location.of_s3("s3.amazonaws.com/b", "eu-west-1").settings["region"] == "eu-west-1"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("webdav://dav.example/remote/me", "webdav://dav.example/remote/me"),
        ("webdav+http://127.0.0.1:80/x", "webdav+http://127.0.0.1:80/x"),
        ("azblob://container/prefix", "azblob://container/prefix"),
        ("b2://bucket/prefix?bucket_id=1234", "b2://bucket/prefix?bucket_id=1234"),
        ("gcs://bucket/prefix", "gcs://bucket/prefix"),
        (
            "swift://container/prefix?endpoint=https%3A%2F%2Fswift.example/v1/AUTH_x",
            "swift://container/prefix?endpoint=https://swift.example/v1/AUTH_x",
        ),
    ],
)
def test_other_stores_have_urls(url: str, place: str) -> None:
    assert Location.of_url(url).place == place
    assert Location.of_url(place).place == place


def test_containers_of_the_same_name_at_other_accounts_are_other_places() -> None:
    container = Location.of_url("azblob://container/prefix")
    assert container.opened_by("one", "x").place != container.opened_by("other", "x").place
    assert container.opened_by("one", "x").place == container.opened_by("one", "y").place
    told = container.opened_by("one", "x").place
    assert told == "azblob://container/prefix?endpoint=https://one.blob.core.windows.net"
    assert Location.of_url(told).place == told


@pytest.mark.parametrize(
    "address",
    [
        "",
        "minio.example",
        "ftp://x/b",
        "https://key:secret@host/b",
        "host:port/b",
        "host/b/../c",
        "host/b?x=1",
        "s3://b/p",
    ],
)
def test_what_is_no_address_of_s3_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        Location.of_s3(address)


@pytest.mark.parametrize(
    "url",
    [
        "minio://b",
        "gcs:///prefix",
        "gcs+http://bucket/prefix",
        "azblob://c/p?acount=x",
        "b2://bucket/prefix",
        "swift://container",
        "webdav://me:secret@host/x",
        "webdav://host/x#y",
    ],
)
def test_what_is_no_url_of_a_store_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        Location.of_url(url)


def test_what_opens_a_store_goes_with_its_address_through_a_seal_and_is_not_shown() -> None:
    location = Location.of_s3("host/bucket/prefix").opened_by("key-id", "the secret")
    assert Location.from_fields(json.loads(json.dumps(location.fields))) == location
    assert "the secret" not in repr(location) + location.place
    assert location.settings["secret_access_key"] == "the secret"


def test_a_key_goes_with_stores_that_have_one_and_with_no_other() -> None:
    with pytest.raises(UsageError, match="needs --access-key"):
        Location.of_s3("host/bucket").opened_by(None, "secret")
    with pytest.raises(UsageError, match="takes no --access-key"):
        Location.of_url("gcs://bucket").opened_by("key", "secret")
    with pytest.raises(UsageError, match="empty"):
        Location.of_s3("host/bucket").opened_by("key", "")


@pytest.mark.parametrize(
    ("address", "key", "secret"),
    [
        ("s3://bucket?endpoint=https://host", "access key", "secret access key"),
        ("azblob://container", "account", "account key"),
        ("gcs://bucket", "", "service account's key"),
        ("b2://bucket?bucket_id=id", "key id", "application key"),
        ("swift://container?endpoint=https://host", "", "token"),
        ("webdav://host/path", "user", "password"),
    ],
)
def test_what_opens_a_store_is_called_what_that_kind_of_store_calls_it(address: str, key: str, secret: str) -> None:
    location = Location.of_url(address)
    if key:
        with pytest.raises(UsageError, match=f"needs --access-key, for its {key}"):
            location.opened_by(None, "secret")
    with pytest.raises(UsageError, match=f"The {secret} of the store is empty"):
        location.opened_by("key" if key else None, "")


@pytest.mark.parametrize(
    "address",
    [
        "webdav://bob:zqx/ss@host/x",
        "webdav://bob:zqx@host/x",
        "webdav://bob:zqx/x",
        "azblob://c/p?account_key=zqx",
        "azblob://c/p?zqx",
        "azblob://c/p#zqx",
        "azblob://c/p?endpoint=https://bob:zqx@host",
        "azblob://c/p?endpoint=https://bob:zqx%40host",
        "azblob://c/p?endpoint=zqx",
        "zqx://c/p",
        "https://bob:zqx@host/b",
        "https://bob:zqx/b",
        "https://host/b?zqx",
        "ftp://zqx/b",
    ],
)
def test_a_secret_in_an_address_is_not_repeated(address: str) -> None:
    for read in (Location.of_s3, Location.of_url):
        with pytest.raises(UsageError) as refused:
            read(address)
        assert "zqx" not in str(refused.value)


def test_a_region_is_refused_where_it_would_mean_nothing() -> None:
    with pytest.raises(UsageError, match="has no --region"):
        Location.of_url("gcs://bucket", "eu-west-1")
    assert Location.of_url("s3://b/p?endpoint=https://host", "eu-west-1").settings["region"] == "eu-west-1"
