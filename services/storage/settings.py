"""Settings of a storage node besides those that every role has."""

from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from services.common.settings import HostPort, RoleSettings
from services.common.worker import MOST
from services.storage.removal.holding import Brake
from services.storage.volumes.remote.address import StoreAddress

# A session that misses this many beats is over.
MISSED_BEATS = 3


def _paths(given: object) -> object:
    """`DIR` or `DIR:DIR` as PATH has it, so that one disk needs no JSON in the environment."""
    return [part for part in given.split(":") if part] if isinstance(given, str) else given


def _words(given: object) -> object:
    return given.split() if isinstance(given, str) else given


class StorageSettings(RoleSettings):
    """One node. Its name in the cluster is `instance`."""

    data_dirs: Annotated[list[Path], NoDecode, BeforeValidator(_paths)] = Field(
        [], description="folders to keep objects in, one for each disk, with `:` between them; default: none"
    )
    gone_disks: Annotated[list[UUID], NoDecode, BeforeValidator(_words)] = Field(
        [], description="ids of disks that are gone for good, with spaces between them: others may take their folders"
    )
    store_key_file: Path | None = Field(
        None,
        description="credentials file as AWS's tools have it, of mode 0600: the keys of the stores, in a section for"
        " each kind; default: none",
    )
    spool_dir: Path | None = Field(
        None, description="local folder in which a body is hashed before it goes to a store; default: none"
    )
    data_stores: Annotated[list[str], NoDecode, BeforeValidator(_words), Field(validate_default=True)] = Field(
        [],
        description="stores to keep objects in, with a space between them:"
        " s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION,"
        " azblob://CONTAINER/PREFIX?endpoint=https://ACCOUNT.blob.core.windows.net, gcs://BUCKET/PREFIX; default: none",
    )
    store_room_bytes: int = Field(
        1 << 40, ge=1, description="free bytes that a store counts as having, while it takes what it is given"
    )
    workers: int = Field(
        1,
        ge=1,
        le=MOST,
        description="processes that serve at this node's ports, each on about one core; more than 1 only with disks",
    )
    token_keys: Path = Field(description="PEM file, or folder of *.pem files: auth's Ed25519 public keys")
    cluster_name: str = Field("local", min_length=1, description="the cluster that this node belongs to")
    auth_server: HostPort | None = Field(
        None, description="internal host:port of the auth role, asked who a restic is; default: none"
    )
    rest_endpoint: HostPort | None = Field(
        None, description="host:port at which restic reaches this node's REST port; default: none"
    )
    rest_listen: HostPort | None = Field(
        None, description="host:port of restic's REST protocol (HTTPS); default: it is not served"
    )
    beat_seconds: float = Field(20, gt=0, description="how often clients beat, in seconds; three missed end a session")
    session_max_days: float = Field(30, gt=0, description="days after which a session ends although it beats")
    node_beat_seconds: float = Field(2, gt=0, description="how often this node says that it lives, in seconds")
    node_silent_seconds: float = Field(8, gt=0, description="seconds of silence after which a node counts as down")
    stall_seconds: float = Field(60, gt=0, description="seconds without a frame from a client that end a stream")
    copy_stall_seconds: float = Field(15, gt=0, description="seconds that another node may take for one frame")
    device_calls_per_second: int = Field(
        500, ge=1, le=1_000_000, description="calls a second that a device may make to the cluster, counted in Redis"
    )
    range_calls_per_second: int = Field(
        2000, ge=1, le=1_000_000, description="the same of all devices in an IPv4 /24 or an IPv6 /48 together"
    )
    calls_burst_seconds: float = Field(
        10, gt=0, le=3600, description="seconds' worth of those calls that may come at once"
    )
    low_water_bytes: int = Field(
        1 << 30, ge=0, description="free bytes on a disk below which nothing more is stored, but what frees some"
    )
    crowded_bytes: int = Field(
        4 << 30, ge=0, description="free bytes above that on a disk below which buckets move to others of the node"
    )
    move_bytes_per_second: int = Field(
        32 << 20, ge=1 << 16, description="greatest number of bytes a second that are moved so"
    )
    move_poll_seconds: float = Field(30, gt=0, description="how often to look for such disks, in seconds")
    max_streams: int = Field(
        1000, ge=1, description="greatest number of puts and gets at once, each of which takes up to 2 MiB of memory"
    )
    disk_threads: int = Field(8, ge=1, le=256, description="threads that hash, write and read")
    replication_streams: int = Field(4, ge=1, le=64, description="copies that this node fetches at once")
    replication_bytes_per_second: int = Field(
        64 << 20, ge=1 << 16, description="greatest number of bytes a second that it fetches so"
    )
    replication_poll_seconds: float = Field(1, gt=0, description="how often to look for copies to fetch, in seconds")
    placement_poll_seconds: float = Field(
        5, gt=0, description="how often to look for buckets that are to move to other nodes, in seconds"
    )
    reap_seconds: float = Field(30, gt=0, description="how often to look for what can be removed, in seconds")
    basket_days: float = Field(7, ge=0, le=36500, description="days for which what was removed stays on the disks")
    scrub_days: float = Field(
        30, gt=0, le=36500, description="days after which a copy is read whole and compared again"
    )
    scrub_bytes_per_second: int = Field(
        32 << 20, ge=1, description="greatest number of bytes a second that are read for that"
    )
    scrub_poll_seconds: float = Field(2, gt=0, description="how often to look for copies to read so, in seconds")
    brake_bytes_percent: float = Field(
        50, gt=0, le=100, description="share of a vault's packs that may be removed in a day before the brake holds it"
    )
    brake_snapshots_percent: float = Field(
        90, gt=0, le=100, description="the same of its snapshots, where it has 50 or more"
    )
    brake_floor_bytes: int = Field(
        1 << 30, ge=0, description="bytes of packs below which the brake does not weigh a vault"
    )
    region_streams: int = Field(
        4, ge=1, le=64, description="objects that this node fetches at once for buckets that follow another cluster"
    )
    region_bytes_per_second: int = Field(
        64 << 20, ge=1 << 16, description="greatest number of bytes a second that it fetches so"
    )
    region_poll_seconds: float = Field(
        10, gt=0, description="how often to ask the other cluster what is new in such a bucket, in seconds"
    )
    region_inventory_hours: float = Field(
        24, gt=0, description="hours after which all of such a bucket is compared with the other cluster's again"
    )
    reconcile_hours: float = Field(24, gt=0, description="hours after which disks and catalogue are compared again")

    @field_validator("data_stores")
    @classmethod
    def _can_be_used(cls, value: list[str], info: ValidationInfo) -> list[str]:
        addresses = [StoreAddress.parse(url) for url in value]
        if any(one.overlaps(other) for one, other in combinations(addresses, 2)):
            raise ValueError("has a store twice, or one that lies in the prefix of another")
        lacking = [name for name in ("store_key_file", "spool_dir") if info.data.get(name) is None]
        if value and lacking:
            raise ValueError(f"needs {' and '.join(f'OORT_{name.upper()}' for name in lacking)} too")
        if not value and not info.data.get("data_dirs"):
            raise ValueError("a node keeps objects in OORT_DATA_DIRS or OORT_DATA_STORES: give one of them")
        return value

    @field_validator("workers")
    @classmethod
    def _on_disks(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and info.data.get("data_stores"):
            raise ValueError("a node with OORT_DATA_STORES has one")
        return value

    @field_validator("rest_listen")
    @classmethod
    def _needs_more(cls, value: str | None, info: ValidationInfo) -> str | None:
        lacking = [name for name in ("auth_server", "rest_endpoint") if info.data.get(name) is None]
        if value is not None and lacking:
            raise ValueError(f"needs {' and '.join(f'OORT_{name.upper()}' for name in lacking)} too")
        return value

    @property
    def silence(self) -> timedelta:
        """How long a session may go without a beat."""
        return timedelta(seconds=self.beat_seconds * MISSED_BEATS)

    @property
    def basket(self) -> timedelta:
        """How long what is condemned stays at least."""
        return timedelta(days=self.basket_days)

    @property
    def scrub_kept(self) -> timedelta:
        """How long a verification of a copy is good."""
        return timedelta(days=self.scrub_days)

    @property
    def brake(self) -> Brake:
        """How much may be removed in a day."""
        return Brake(self.brake_snapshots_percent, self.brake_bytes_percent, self.brake_floor_bytes)

    @property
    def session_max_age(self) -> timedelta:
        return timedelta(days=self.session_max_days)
