"""What is said to a restic of where a vault lies."""

import subprocess

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


def test_the_region_of_s3_is_told() -> None:
    location = Location.of_s3("s3.test/box", "far").opened_by("id", SECRET)
    assert "export AWS_DEFAULT_REGION=far" in restic_access(location).lines


def test_a_folder_of_s3_is_told_as_restic_reads_it() -> None:
    location = Location.of_s3("s3.test/box/a%20b/50%25%3F").opened_by("id", SECRET)
    assert location.root == "/a b/50%?"
    assert restic_access(location).repository == "s3:https://s3.test/box/a%20b/50%25%3F"


def test_a_shell_takes_a_key_and_a_secret_as_they_are() -> None:
    key, secret = 'it\'s "$HOME" & `me`', 'a$$b "c" \\ `d`'
    location = Location.of_s3("s3.test/box").opened_by(key, SECRET)
    *exports, _ = restic_access(location).lines
    script = "\n".join([*exports, 'printf "%s\n" "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"'])
    script = script.replace("='SECRET'", f"='{secret}'")
    assert subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True).stdout == (
        f"{key}\n{secret}\n"
    )


def test_an_endpoint_of_ones_own_is_told_with_the_rclone_that_takes_it() -> None:
    usual = Location.of_url("azblob://box").opened_by("me", SECRET)
    own = Location.of_url("azblob://box?endpoint=https://azure.test/me").opened_by("me", SECRET)
    assert restic_access(usual).lines[0].endswith("restic needs rclone beside it")
    assert restic_access(own).lines[0].endswith("restic needs rclone 1.61 or later beside it")


def test_a_server_of_sftp_is_reached_by_ssh_with_nothing_to_be_set() -> None:
    location = SftpLocation.of_address("me@nas.test/a b")
    assert restic_access(location).lines == ["restic --repo sftp://me@nas.test/a%20b snapshots"]
