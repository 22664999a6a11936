"""What must be true of a bucket after every step: the invariants, from the catalogue and from both disks.

1. Every blob of a committed, unremoved snapshot is in a live pack, 2. that pack is named by a live index file, and no
live index file names a pack that is condemned or gone. 3. A restore finds all of a snapshot that was there when it was
opened. 4. At rest one retention and the reaper leave exactly what is needed (`needed_only`). 5. No step takes what a
snapshot needs from a home that has it (`keeps_copies`).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.names import ObjectKind, ObjectName
from services.storage.tests.model.world import World

_CATALOGUE = """
select json_build_object(
    'objects', (select coalesce(json_agg(json_build_array(
                    id, kind, encode(sha256, 'hex'), state, condemned_seq, created_seq)), '[]')
                from objects where bucket_id = %(bucket)s),
    'sessions', (select coalesce(json_agg(json_build_array(
                     id, purpose, encode(parent, 'hex'), opened_seq, ended_seq, mark_seq, pack_seq, index_seq)), '[]')
                 from sessions where bucket_id = %(bucket)s),
    'users', (select coalesce(json_agg(json_build_array(u.object_id, u.session_id)), '[]')
              from object_users u join objects o on o.id = u.object_id where o.bucket_id = %(bucket)s),
    'pins', (select coalesce(json_agg(json_build_array(p.object_id, p.session_id)), '[]')
             from pins p join objects o on o.id = p.object_id where o.bucket_id = %(bucket)s),
    'missing', (select coalesce(json_agg(json_build_array(object_id, node_id)), '[]')
                from missing_copies where bucket_id = %(bucket)s),
    'removals', (select coalesce(json_agg(json_build_array(object_id, node_id)), '[]')
                 from removals where bucket_id = %(bucket)s),
    'counted', (select b.objects = (select count(*) from objects where bucket_id = b.id) from buckets b
                where b.id = %(bucket)s))
"""


class Lost(AssertionError):
    """An invariant does not hold."""


@dataclass(frozen=True, slots=True)
class Row:
    """An object of the catalogue."""

    id: int
    name: ObjectName
    state: str
    condemned_seq: int | None
    created_seq: int


@dataclass(frozen=True, slots=True)
class Session:
    """A session of the catalogue."""

    id: UUID
    purpose: str
    parent: str | None
    opened_seq: int
    ended_seq: int | None
    mark_seq: int | None
    pack_seq: int
    index_seq: int


@dataclass(frozen=True, slots=True)
class Promise:
    """A restore that is open, and the snapshots that were there when it was opened."""

    session: UUID
    snapshots: frozenset[ObjectName]


@dataclass(frozen=True)
class Picture:
    """The bucket at one moment. `staged` has a name as often as there are incoming files of it, and whose they are."""

    rows: dict[ObjectName, Row]
    sessions: dict[UUID, Session]
    users: frozenset[tuple[int, str]]
    pins: frozenset[tuple[int, str]]
    missing: frozenset[tuple[int, str]]
    removals: frozenset[tuple[int, str]]
    counted: bool
    files: dict[str, frozenset[ObjectName]]
    staged: dict[str, Counter[tuple[ObjectName, UUID]]]

    def live(self, kind: ObjectKind) -> set[ObjectName]:
        return {name for name, row in self.rows.items() if name.kind is kind and row.state == "live"}

    def seen_since(self, seq: int) -> set[ObjectName]:
        """What a session sees that was opened at `seq`."""
        return {
            name
            for name, row in self.rows.items()
            if row.state == "live" or (row.state == "condemned" and (row.condemned_seq or 0) > seq)
        }

    def lies_anywhere(self, name: ObjectName) -> bool:
        return any(name in self.there(node) for node in self.files)

    def there(self, node: str) -> frozenset[ObjectName]:
        """What lies on a node, be it in an incoming file."""
        return self.files[node] | {name for name, _ in self.staged[node]}


async def picture(world: World) -> Picture:
    """Look at the catalogue in one statement, then at the disks."""
    async with world.db.worker() as unit:
        cursor = await unit.execute(_CATALOGUE, {"bucket": world.claims.bucket})
        found = await cursor.fetchone()
    assert found is not None
    told: dict[str, Any] = found[0]
    rows = {}
    for number, kind, digest, *others in told["objects"]:
        known = ObjectKind(kind)
        name = ObjectName(known, "" if known.is_root_file else digest)
        rows[name] = Row(number, name, *others)
    sessions = {UUID(one[0]): Session(UUID(one[0]), *one[1:]) for one in told["sessions"]}
    names = {*rows, *world.made}
    pairs = {key: frozenset((one[0], one[1]) for one in told[key]) for key in ("users", "pins", "missing", "removals")}
    return Picture(
        rows=rows,
        sessions=sessions,
        counted=told["counted"],
        files={node: frozenset(name for name in names if world.lies(node, name)) for node in world.nodes},
        staged={node: Counter((one.name, one.session) for one in world.staged(node).values()) for node in world.nodes},
        **pairs,
    )


def check(world: World, seen: Picture, promises: Iterable[Promise] = ()) -> None:
    """Raises Lost with what does not hold."""
    _snapshots_are_whole(world, seen)
    _index_files_name_live_packs(world, seen)
    for promise in promises:
        _restore_finds_all(world, seen, promise)
    _copies_are_there(world, seen)
    if not seen.counted:
        raise Lost("the bucket's counter of objects is not how many there are")


def keeps_copies(world: World, before: Picture, after: Picture) -> None:
    """What a snapshot needs lies on no fewer homes than it did; a pack that was condemned before it is not its own.

    Raises Lost.
    """
    for snapshot in before.live(ObjectKind.SNAPSHOT) & after.live(ObjectKind.SNAPSHOT):
        since = before.rows[snapshot].created_seq
        own = [
            row.name
            for row in before.rows.values()
            if row.name.kind is ObjectKind.PACK and (row.condemned_seq is None or row.condemned_seq > since)
        ]
        left = [name for name in after.rows if name.kind is ObjectKind.PACK]
        for node in world.nodes:
            gone = _on(world, before, node, own) - _on(world, after, node, left)
            if lost := gone & world.made[snapshot].holds:
                raise Lost(f"5: {sorted(lost)} of {snapshot} was on node {node}, and is on no disk there any more")


def _on(world: World, seen: Picture, node: str, packs: Iterable[ObjectName]) -> set[str]:
    """The blobs of the packs that lie on a node."""
    there = seen.there(node)
    return {blob for pack in packs if pack in there for blob in world.made[pack].holds}


def _snapshots_are_whole(world: World, seen: Picture) -> None:
    found: set[str] = set()
    live = seen.live(ObjectKind.PACK)
    for index in seen.live(ObjectKind.INDEX):
        for pack in world.made[index].lists & live:
            if seen.lies_anywhere(pack):
                found |= world.made[pack].holds
    for snapshot in seen.live(ObjectKind.SNAPSHOT):
        if lacking := world.made[snapshot].holds - found:
            raise Lost(f"1: {snapshot} lacks {sorted(lacking)} in live packs of live index files")


def _index_files_name_live_packs(world: World, seen: Picture) -> None:
    live = seen.live(ObjectKind.PACK)
    for index in seen.live(ObjectKind.INDEX):
        if gone := world.made[index].lists - live:
            raise Lost(f"2: {index} names {sorted(map(str, gone))}, which are condemned or gone")


def _restore_finds_all(world: World, seen: Picture, promise: Promise) -> None:
    session = seen.sessions.get(promise.session)
    if session is None or session.ended_seq is not None:
        return
    visible = {name for name in seen.seen_since(session.opened_seq) if seen.lies_anywhere(name)}
    found: set[str] = set()
    for index in visible:
        if index.kind is ObjectKind.INDEX:
            for pack in world.made[index].lists & visible:
                found |= world.made[pack].holds
    for snapshot in promise.snapshots:
        if snapshot not in visible:
            raise Lost(f"3: {snapshot} was there when session {session.id} was opened, which sees it no more")
        if lacking := world.made[snapshot].holds - found:
            raise Lost(f"3: session {session.id} finds no {sorted(lacking)} of {snapshot}")


def _copies_are_there(world: World, seen: Picture) -> None:
    for node, files in seen.files.items():
        excused = {number for number, other in seen.missing if other == node}
        there = seen.there(node)
        for name, row in seen.rows.items():
            if row.state != "deleting" and name not in there and row.id not in excused:
                raise Lost(f"{name} lies on node {node} by the catalogue, and does not")
        if strays := files - set(seen.rows):
            raise Lost(f"node {node} has files that no row of the catalogue knows: {sorted(map(str, strays))}")
        for index in files:
            # Rule 11: what other readers see in the folder names nothing that was removed there.
            lists = world.made[index].lists if index.kind is ObjectKind.INDEX else frozenset()
            gone = {one for one in lists - there if one not in seen.rows or seen.rows[one].id not in excused}
            if gone:
                raise Lost(f"11: on node {node} {index} names {sorted(map(str, gone))}, which do not lie there")


def needed_only(world: World, seen: Picture) -> None:
    """Invariant 4, when all sessions are over and retention and reaper have run. Raises Lost."""
    needed: set[str] = set()
    for snapshot in seen.live(ObjectKind.SNAPSHOT):
        needed |= world.made[snapshot].holds
    stored = [blob for pack in seen.live(ObjectKind.PACK) for blob in world.made[pack].holds]
    if sorted(stored) != sorted(needed):
        raise Lost(f"4: {sorted(needed)} are needed, and stored are {sorted(stored)}")
    if idle := [str(name) for name, row in seen.rows.items() if row.state != "live"]:
        raise Lost(f"4: {idle} are still not gone")
    for node in world.nodes:
        if seen.staged[node] or seen.files[node] != set(seen.rows):
            odd = seen.files[node] ^ set(seen.rows)
            raise Lost(f"4: node {node} holds {sorted(map(str, odd))} against the catalogue, or incoming files")
