"""Snapshots: the roots from which everything in a vault is reached.

Kept true: a snapshot's id is the name of its object, so changing one means another object, which names the first in
`original`. Item, device and note are tags, which survive restic's own rewrites; tags that begin with `oort:` are ours.
"""

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from client.errors import AmbiguousSnapshot, DamagedVault, NoOwnSnapshot, NoSuchSnapshot
from client.vault.blobs import BlobId, Buffer
from client.vault.documents import U32, Document
from client.vault.gojson import RawNumber, go_json, json_string
from client.vault.times import format_time, parse_time

RESERVED_TAGS = "oort:"
ITEM_TAG = "oort:item="
LATEST = "latest"  # names the newest snapshot
DEVICE_TAG = "oort:device="
NOTE_TAG = "oort:note="
REPAIRED_TAG = "oort:repaired="  # and the id of the snapshot of which this one is what is left
REPAIRED = "repaired"
# In restic's order; fields that are not known here are kept, after these.
_FIELDS = (
    *("time", "parent", "tree", "paths", "hostname", "username", "uid", "gid", "excludes", "tags", "original"),
    "program_version",
)
_SHORT = 8
_SHOWN_PATHS = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was backed up, when and where; `id` is 64 hex digits, empty for one that is not stored yet.

    `time_ns` are nanoseconds since 1970, `parent` and `original` ids of snapshots in hex, `tree` the root tree's id.
    """

    time_ns: int
    tree: BlobId
    paths: tuple[str, ...] = ()
    hostname: str = ""
    username: str = ""
    uid: int = 0
    gid: int = 0
    excludes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    parent: str | None = None
    original: str | None = None
    program_version: str = ""
    id: str = ""

    @property
    def short_id(self) -> str:
        return self.id[:_SHORT]

    @property
    def time(self) -> datetime:
        """The time in UTC, microseconds kept; the nearest that datetime has, for years that it lacks."""
        try:
            return _EPOCH + timedelta(microseconds=self.time_ns // 1000)
        except OverflowError:
            return _FIRST if self.time_ns < 0 else _LAST

    @property
    def item(self) -> str:
        """The id of the protected item, or nothing."""
        return self._tagged(ITEM_TAG)

    @property
    def device(self) -> str:
        """The id of the device, or nothing."""
        return self._tagged(DEVICE_TAG)

    @property
    def note(self) -> str:
        """What its user wrote about it, or nothing."""
        return self._tagged(NOTE_TAG)

    @property
    def repaired_from(self) -> str:
        """The id of the damaged snapshot of which this one is what is left, or nothing."""
        return self._tagged(REPAIRED_TAG)

    @property
    def user_tags(self) -> tuple[str, ...]:
        """Its tags without ours."""
        return tuple(tag for tag in self.tags if not tag.startswith(RESERVED_TAGS))

    def is_seen_by(self, device: str) -> bool:
        """Whether a device has it among its own: it made it, or nobody is known to have (as with restic's)."""
        return self.device in (device, "")

    def _tagged(self, prefix: str) -> str:
        return next((tag.removeprefix(prefix) for tag in self.tags if tag.startswith(prefix)), "")


def paths_text(paths: Sequence[str]) -> str:
    """Paths as a person reads them; of a long list the first, and how many more there are."""
    more = len(paths) - _SHOWN_PATHS
    return ", ".join(paths[:_SHOWN_PATHS]) + (f" and {more:,} more" if more > 0 else "")


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The JSON document of a snapshot, as restic writes it."""
    parts = [f'"time":"{format_time(snapshot.time_ns)}"']
    if snapshot.parent:
        parts.append(f'"parent":"{snapshot.parent}"')
    parts.append(f'"tree":"{snapshot.tree.hex()}"')
    parts.append(f'"paths":{_texts(snapshot.paths)}')
    for field, text in (("hostname", snapshot.hostname), ("username", snapshot.username)):
        if text:
            parts.append(f'"{field}":{json_string(text)}')
    for field, number in (("uid", snapshot.uid), ("gid", snapshot.gid)):
        if number:
            parts.append(f'"{field}":{number}')
    for field, texts in (("excludes", snapshot.excludes), ("tags", snapshot.tags)):
        if texts:
            parts.append(f'"{field}":{_texts(texts)}')
    if snapshot.original:
        parts.append(f'"original":"{snapshot.original}"')
    if snapshot.program_version:
        parts.append(f'"program_version":{json_string(snapshot.program_version)}')
    return ("{" + ",".join(parts) + "}").encode()


def decode_snapshot(body: Buffer, snapshot_id: str = "") -> Snapshot:
    """The snapshot in a JSON document. Raises DamagedVault."""
    document = Document.parse(body, f"snapshots/{snapshot_id}")
    parent, original = document.optional_id("parent"), document.optional_id("original")
    try:
        time_ns = parse_time(document.text("time"))
    except ValueError as error:
        raise DamagedVault(name=document.name, detail=f"its time cannot be read: {error}") from None
    return Snapshot(
        time_ns=time_ns,
        tree=document.id("tree"),
        paths=document.texts("paths"),
        hostname=document.text("hostname"),
        username=document.text("username"),
        uid=document.whole("uid", U32),
        gid=document.whole("gid", U32),
        excludes=document.texts("excludes"),
        tags=document.texts("tags"),
        parent=parent.hex() if parent else None,
        original=original.hex() if original else None,
        program_version=document.text("program_version"),
        id=snapshot_id,
    )


def newest_first(snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """Newest first: a snapshot before its parent, whatever the clocks said; else by time; the id decides at last.

    A clock that was set back, or was ahead, thus misplaces nothing of the device whose clock it was, as long as the
    chain of parents is unbroken (docs/decisions/clocks.md).
    """
    by_time = sorted(snapshots, key=lambda snapshot: (snapshot.time_ns, snapshot.id))
    # A snapshot that was changed since is known to its children by what it was changed from.
    ranks = {snapshot.original: rank for rank, snapshot in enumerate(by_time) if snapshot.original}
    ranks |= {snapshot.id: rank for rank, snapshot in enumerate(by_time)}
    parents = [ranks.get(snapshot.parent or "", rank) for rank, snapshot in enumerate(by_time)]
    children = Counter(parent for rank, parent in enumerate(parents) if parent != rank)
    ready = [-rank for rank in range(len(by_time)) if not children[rank]]
    heapq.heapify(ready)
    ordered: list[int] = []
    while ready:
        rank = -heapq.heappop(ready)
        ordered.append(rank)
        parent = parents[rank]
        if parent != rank:
            children[parent] -= 1
            if not children[parent]:
                heapq.heappush(ready, -parent)
    # Parents in a circle cannot come about, since a name is a hash; a forged document may claim one.
    ordered += sorted(set(range(len(by_time))) - set(ordered), reverse=True)
    return [by_time[rank] for rank in ordered]


def select_snapshot(snapshots: Iterable[Snapshot], wanted: str, device: str | None = None) -> Snapshot:
    """The snapshot that `wanted` names: `latest`, an id or an unambiguous prefix of one.

    `latest` is the newest that `device` has among its own, or of all. Raises NoSuchSnapshot.
    """
    snapshots = list(snapshots)
    if wanted == LATEST:
        matches = newest_first(one for one in snapshots if device is None or one.is_seen_by(device))[:1]
        if snapshots and not matches:
            raise NoOwnSnapshot
    else:
        matches = [snapshot for snapshot in snapshots if wanted and snapshot.id.startswith(wanted.lower())]
    if len(matches) > 1:
        raise AmbiguousSnapshot(snapshot=wanted, count=len(matches))
    if not matches:
        raise NoSuchSnapshot(snapshot=wanted)
    return matches[0]


def retag_document(body: Buffer, old: Snapshot, tags: Sequence[str]) -> bytes:
    """The document `body` of the snapshot `old` with other tags, as restic rewrites one. Raises DamagedVault."""
    return _changed_document(body, old, {"tags": list(tags)})


def repaired_document(body: Buffer, old: Snapshot, tree: BlobId) -> bytes:
    """The document `body` of the snapshot `old` with what is left of its tree. Raises DamagedVault.

    It is newer than the old one, its parent, and says so in its tags: `repaired`, as restic does it, and the id.
    """
    kept = [tag for tag in old.tags if tag != REPAIRED and not tag.startswith(REPAIRED_TAG)]
    tags = [*kept, REPAIRED, f"{REPAIRED_TAG}{old.id}"]
    return _changed_document(body, old, {"tags": tags, "tree": tree.hex(), "parent": old.id})


def copied_document(body: Buffer, old: Snapshot, parent: str | None) -> bytes:
    """The document `body` of the snapshot `old` for a vault where its parent is `parent`. Raises DamagedVault."""
    return _changed_document(body, old, {"parent": parent})


def _changed_document(body: Buffer, old: Snapshot, changes: Mapping[str, Any]) -> bytes:
    document = Document(
        f"snapshots/{old.id}", json.loads(str(body, "utf-8"), parse_int=RawNumber, parse_float=RawNumber)
    )
    fields = {**document.fields, **changes, "original": old.original or old.id}
    for name in ("tags", "parent"):
        if not fields.get(name):
            fields.pop(name, None)
    ordered = [*(name for name in _FIELDS if name in fields), *(name for name in fields if name not in _FIELDS)]
    return go_json({name: fields[name] for name in ordered}).encode()


def _texts(texts: Iterable[str]) -> str:
    return "[" + ",".join(map(json_string, texts)) + "]"
