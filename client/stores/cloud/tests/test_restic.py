"""What is said to a restic of where a vault lies."""

import pytest

from client.stores.cloud.location import Location
from client.stores.cloud.restic import restic_access
from client.stores.cloud.sftp.location import SftpLocation

SECRET = "zqx-secret"


@pytest.mark.parametrize(
    ("location", "key", "repository", "secret"),
    [
        (Location.of_url("azblob://box/a/b"), "account", "rclone:oort:box/a/b", "RCLONE_CONFIG_OORT_KEY"),
        (Location.of_url("gcs://box"), None, "rclone:oort:box", "RCLONE_CONFIG_OORT_SERVICE_ACCOUNT_FILE"),
        (Location.of_url("b2://box/a?bucket_id=7"), "id", "rclone:oort:box/a", "RCLONE_CONFIG_OORT_KEY"),
        (
            *(Location.of_url("swift://box/a?endpoint=https://swift.test/v1/me"), None, "rclone:oort:box/a"),
            "RCLONE_CONFIG_OORT_AUTH_TOKEN",
        ),
        (Location.of_url("webdav://dav.test/a%20b"), "me", "rclone:oort:a b", "RCLONE_CONFIG_OORT_PASS"),
        (Location.of_s3("s3.test/box/a"), "id", "s3:https://s3.test/box/a", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_each_kind_of_store_is_told_without_its_secret(
    location: Location, key: str | None, repository: str, secret: str
) -> None:
    access = restic_access(location.opened_by(key, SECRET))
    assert (access.repository, access.secret) == (repository, secret)
    assert SECRET not in "\n".join([*access.lines, *access.environment.values()])
    assert key is None or key in access.environment.values()


def test_an_endpoint_of_ones_own_is_told() -> None:
    location = Location.of_url("azblob://box/a?endpoint=http://127.0.0.1:10000/me").opened_by("me", SECRET)
    assert restic_access(location).environment["RCLONE_CONFIG_OORT_ENDPOINT"] == "http://127.0.0.1:10000/me"


def test_a_region_that_restic_would_not_guess_is_told() -> None:
    location = Location.of_s3("s3.test/box", "far").opened_by("id", SECRET)
    assert restic_access(location).lines[-1] == "restic -o s3.region=far --repo s3:https://s3.test/box snapshots"


def test_a_server_of_sftp_is_reached_by_ssh_with_nothing_to_be_set() -> None:
    location = SftpLocation.of_address("me@nas.test/a b")
    assert restic_access(location).lines == ["restic --repo sftp://me@nas.test/a%20b snapshots"]
