"""One prefix of an object store in which a node keeps bodies.

    PREFIX/oort-disk.json             whose it is (marker.py)
    PREFIX/cleared/ORDER              of each order to clear a bucket that is over (clearing.py)
    PREFIX/incoming/BUCKET/...        bodies that no catalogue entry has called for yet
    PREFIX/buckets/BUCKET/            a restic repository: config, keys/, data/xx/, index/, snapshots/, locks/

Kept true, with what volumes/volume.py says: one node has a prefix, since the marker is created by a write that replaces
nothing, and a store that replaces something by such a write is refused at the start.

Crash order of a put: the whole body in the spool, its hash, then one object below incoming/ (durable now, and may be
counted), then the catalogue entry, then a copy within the store to its place, then the removal from incoming/. A crash
leaves what a disk has after the same step; the copy may be made twice.
"""

import errno
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from uuid import UUID, uuid4

import structlog

from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from services.common.errors import ServiceError, StartError, Unavailable
from services.storage.errors import DiskFull, Unentered
from services.storage.store.nodes import NodeDisk
from services.storage.store.rescans import FoundFile
from services.storage.volumes import marker
from services.storage.volumes.remote import bucket_folder
from services.storage.volumes.remote.bodies import RemoteObject, SpooledBody, WaitingObject
from services.storage.volumes.remote.spool import Spool
from services.storage.volumes.remote.store import Entry, Store, StoreAway
from services.storage.volumes.staging import StagedName
from services.storage.volumes.volume import hash_of

_INCOMING = "incoming/"
_TRIED = f"{_INCOMING}tried/"
_BUCKETS = "buckets/"
_CLEARED = "cleared/"
_LEAVING = (ObjectKind.SNAPSHOT, ObjectKind.INDEX, ObjectKind.PACK, ObjectKind.KEY)
_REMOVED_AT_ONCE = 1000
_LISTED_FROM = 8  # objects of one folder that are asked for: a list of it costs what a few questions cost
_REFUSED_SECONDS = 300  # until a store that refused the node is asked again: each time objects are written to try it
_log = structlog.get_logger("storage")


class RemoteVolume:
    """Methods as of Volume."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        node: str,
        room_bytes: int,
        *,
        cluster: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Claim the prefix. Raises StartError for another node's, and for a store that is not fit.

        One that does not answer is away: `claim` it later. A store does not say what it can take:
        `room_bytes` is what it counts as, while it takes what it is given.
        """
        self.store = store
        self._spool = spool
        self._node = node
        self._owner = f"{cluster}/{node}"  # another cluster may have a node of that name
        self._room_bytes = room_bytes
        self._replacing = threading.Lock()  # of root files, whose names do not say their content
        self._known: set[UUID] = set()
        self._id: UUID | None = None  # until it is claimed nothing is asked of it, or said of what lies there
        self._why = ""  # it is not claimed
        self._monotonic = monotonic
        self._refused_until = 0.0
        try:
            self._take()
        except StoreAway as error:
            if not error.passes:
                raise StartError(f"OORT_DATA_STORES: {error.why}") from error
            self._why = error.why
            _log.error("the node starts without a store that is away, and takes it when it answers", cause=error.why)
        except ServiceError as error:
            raise StartError(f"OORT_DATA_STORES: {self.store.place}: {error}") from error

    def close(self) -> None:
        self.store.close()

    def _take(self) -> None:
        """Claim it, and see what lies there."""
        known = self._marker()
        claimed = self._claim() if known is None else self._claim_again(known)
        found = self._listed()
        self._known |= found
        if known is None:
            _log.warning("a store is taken that had no mark of this node's", store=self.store.place, buckets=len(found))
        self._id = claimed

    def _claim(self) -> UUID:
        self.store.try_out(_TRIED)
        self.store.create(marker.NAME, marker.content(self._owner, uuid4()))
        known = self._marker()
        if known is None:
            raise self.store.away("it does not show the node's marker, which was just written")
        volume = self._own(known)
        self.store.require_condition(marker.NAME, marker.content(self._owner, volume))
        return volume

    def _claim_again(self, known: tuple[str, UUID]) -> UUID:
        """One that is full is taken as a full disk is: it gives what it has, and removing makes room."""
        volume = self._own(known)
        try:
            self.store.try_out(_TRIED, is_in_use=True)
            self.store.require_condition(marker.NAME, marker.content(self._owner, volume))
        except DiskFull:
            _log.warning("the node starts on a store that is full", store=self.store.place)
        return volume

    def _own(self, known: tuple[str, UUID]) -> UUID:
        owner, volume = known
        if owner != self._owner:
            raise StartError(f"OORT_DATA_STORES: {self.store.place} belongs to node {owner}, and this is {self._owner}")
        return volume

    def _marker(self) -> tuple[str, UUID] | None:
        found = self.store.read(marker.NAME)
        if found is None:
            return None
        known = marker.parse(found)
        if known is None:
            raise StartError(f"OORT_DATA_STORES: cannot read {self.store.place}/{marker.NAME}: bring it back")
        return known

    def _listed(self) -> set[UUID]:
        found = set()
        for folder in (_BUCKETS, _INCOMING):
            for entry in self.store.list(folder):
                with suppress(ValueError):  # not ours
                    found.add(UUID(entry.name))
        return found

    @property
    def free_bytes(self) -> int:
        takes = self._id is not None and not self.store.is_full and self._spool.free_bytes
        return self._room_bytes if takes else 0

    @property
    def is_there(self) -> bool:
        """At once where it is not claimed yet: those who ask, as the heartbeat does, do not wait for that."""
        if self._id is None:
            return False
        try:
            return self._marker() == (self._owner, self._id)
        except (ServiceError, StartError) as error:
            _log.warning("a store cannot be reached", store=self.store.place, cause=str(error))
            return False

    def state(self) -> NodeDisk:
        there = self.is_there
        known = "" if self._id is None else str(self._id)
        return NodeDisk(known, self.store.kind, self.store.place, self.free_bytes if there else 0, there)

    def claim(self) -> None:
        """Claim what was away at the start; nothing if it is claimed. One call after the other.

        Why it cannot be is logged when that changes: the node serves on with what else it has, also beside a store that
        it would not have started with. After it refused the node it is asked again in five minutes.
        """
        if self._id is not None or self._monotonic() < self._refused_until:
            return
        try:
            self._take()
        except (ServiceError, StartError) as error:
            why = error.why if isinstance(error, StoreAway) else str(error)
            if not (isinstance(error, StoreAway) and error.passes):
                self._refused_until = self._monotonic() + _REFUSED_SECONDS
            if why != self._why:
                self._why = why
                _log.error("a store that was away at the start cannot be taken", cause=why)
        else:
            _log.info("a store is there that was away at the start", store=self.store.place)

    def _require_claimed(self) -> None:
        if self._id is None:
            raise self.store.away(f"it was away when the node started, and is not taken since: {self._why}")

    def require_there(self) -> None:
        """Asked before what was not found is called missing: a store, or what stands before it, may say that of all."""
        if not self.is_there:
            raise self.store.away("it has not the node's marker, or does not answer")

    def held(self) -> set[UUID]:
        self._require_claimed()
        self._known |= self._listed()
        return set(self._known)

    def has_bucket(self, bucket: UUID) -> bool:
        return bucket in self._known

    def may_hold(self, bucket: UUID) -> bool:
        # In this order: what lies there is known before it is claimed.
        return self._id is None or bucket in self._known

    def make_bucket(self, bucket: UUID) -> None:
        self._known.add(bucket)

    def stage(self, staged: StagedName, size: int, *, frees: bool = False, first: bool = False) -> SpooledBody:
        if first:
            self._require_free(staged, size)
        body = SpooledBody(self, self._spool, self._spool.begin(staged, size, frees=frees), staged, size)
        self.make_bucket(staged.bucket)  # after what `clear` sees, which may be forgetting it
        return body

    def _require_free(self, staged: StagedName, size: int) -> None:
        """The catalogue knows nothing in its place: what lies there all the same may be all that opens a vault."""
        path = self.path(staged.bucket, staged.name)
        found = self.store.size(path)
        if found is None:
            self.require_there()
            return
        if found != size or hash_of(RemoteObject(self, path, size), size) != staged.sha256:
            raise Unentered(node=self._node)

    def place(self, path: str, staged: StagedName, size: int) -> None:
        """Copy a body from incoming/ to its place, and remove it there; nothing if somebody has placed it."""
        self.make_bucket(staged.bucket)
        if staged.name.kind.is_root_file:
            with self._replacing:
                self._place(path, staged, size)
        else:
            self._place(path, staged, size)

    def _place(self, path: str, staged: StagedName, size: int) -> None:
        target = self.path(staged.bucket, staged.name)
        if self.store.copy(path, target, size):
            try:
                self.store.delete(path)
            except ServiceError as error:  # the copy is whole in its place, and `Incoming` settles what is left
                _log.warning("a staged body is left to be settled", path=path, cause=str(error))
        elif self.store.size(target) is None:
            self.require_there()
            raise FileNotFoundError(errno.ENOENT, "neither staged nor in its place", path)

    def path(self, bucket: UUID, name: ObjectName) -> str:
        return self._top(bucket) + name.path

    def incoming_of(self, bucket: UUID) -> str:
        return f"{_INCOMING}{bucket}/"

    def staged(self, bucket: UUID | None = None) -> Iterator[WaitingObject]:
        self._require_claimed()
        if bucket is not None and bucket not in self._known:
            return
        yield from self._waiting(bucket)

    def _waiting(self, bucket: UUID | None = None) -> Iterator[WaitingObject]:
        folders = [self.incoming_of(bucket)] if bucket else [entry.path for entry in self.store.list(_INCOMING)]
        for folder in folders:
            try:
                owner = UUID(folder.rstrip("/").rpartition("/")[2])
            except ValueError:
                continue
            for entry in self.store.list(folder):
                known = None if entry.is_folder else StagedName.parse(owner, entry.name)
                if known is not None:
                    yield WaitingObject(self, entry.path, known, entry.size)

    def sessions_of(self, bucket: UUID) -> set[UUID]:
        self._require_claimed()
        begun = self._spool.sessions_of(bucket)  # first: what leaves the spool is in the store by then
        found = begun | {waiting.staged.session for waiting in self._waiting(bucket)}
        if not found:
            self.require_there()
        return found

    def clear(self, bucket: UUID, over: Container[UUID]) -> bool:
        """It is gone when a look finds nothing, not when all was removed: a copy to its place may be under way.

        A body in the spool is still to come, whosever it is.
        """
        found = bool(self._spool.sessions_of(bucket))
        for waiting in self._waiting(bucket):
            found = True
            if waiting.staged.session in over:
                waiting.discard()
        if self._remove_all(bucket) or found:
            return False
        self.require_there()
        self._known.discard(bucket)
        if self._spool.sessions_of(bucket):  # one has begun since
            self.make_bucket(bucket)
            return False
        return True

    def _remove_all(self, bucket: UUID) -> bool:
        """Remove objects so that what lies there names nothing that has gone. Answers whether there were any."""
        found = False
        for kind in _LEAVING:
            objects = self.of_kind(bucket, kind)
            while some := list(islice(objects, _REMOVED_AT_ONCE)):
                names = [one.name for one in some if not isinstance(one, str)]
                found = self._removed(bucket, names) or found
        roots = [name for name in (SEAL, CONFIG) if self.store.size(self.path(bucket, name)) is not None]
        return self._removed(bucket, roots) or found

    def _removed(self, bucket: UUID, names: Sequence[ObjectName]) -> bool:
        if self.remove(bucket, names) != set(names):
            raise self.store.away("it refuses to delete")
        return bool(names)

    def is_noted(self, order: UUID) -> bool:
        self._require_claimed()
        if self.store.size(f"{_CLEARED}{order}") is not None:
            return True
        self.require_there()
        return False

    def note(self, order: UUID) -> None:
        self._require_claimed()
        self.store.create(f"{_CLEARED}{order}", str(order).encode())

    def drop_parts(self) -> int:
        return self._spool.clear()

    def open(self, bucket: UUID, name: ObjectName, size: int, *, cut: bool = False) -> RemoteObject | None:
        path = self.path(bucket, name)
        found = self.store.size(path)
        if found is None:
            self.require_there()
            return None
        return RemoteObject(self, path, found) if found == size or (cut and found > size) else None

    def lacking(self, bucket: UUID, wanted: Sequence[tuple[ObjectName, int]]) -> set[ObjectName]:
        folders = defaultdict(list)
        for name, size in wanted:
            folders[self.path(bucket, name).rpartition("/")[0]].append((name, size))
        absent: set[ObjectName] = set()
        single = []
        for folder, some in folders.items():
            if len(some) < _LISTED_FROM:
                single += some
            else:
                there = {entry.name: entry.size for entry in self.store.list(f"{folder}/")}
                absent |= {name for name, size in some if there.get(name.path.rpartition("/")[2]) != size}
        sizes = self.store.sizes([self.path(bucket, name) for name, _ in single])
        absent |= {name for (name, size), found in zip(single, sizes, strict=True) if found != size}
        if absent:
            self.require_there()
        return absent

    def remove(self, bucket: UUID, names: Sequence[ObjectName]) -> set[ObjectName]:
        paths = {name: self.path(bucket, name) for name in names}
        refused = self.store.delete_all(list(paths.values()))
        for path, cause in refused.items():
            _log.error("a copy cannot be removed", path=path, cause=cause)
        return {name for name, path in paths.items() if path not in refused}

    def root_files(self, bucket: UUID) -> list[FoundFile]:
        found = {entry.name: entry for entry in self.store.list(self._top(bucket))}
        return [
            FoundFile(name, self._hash(entry), entry.size, bucket_folder.time_of(entry))
            for name in (CONFIG, SEAL)
            if (entry := found.get(name.path)) is not None and not entry.is_folder
        ]

    def _hash(self, entry: Entry) -> bytes:
        digest = hash_of(RemoteObject(self, entry.path, entry.size), entry.size)
        if digest is None:
            raise Unavailable(what=f"{entry.path}, which was just listed,")
        return digest

    def files(self, bucket: UUID) -> Iterator[FoundFile | str]:
        return bucket_folder.files(self.store, self._top(bucket))

    def copied(self, bucket: UUID, name: ObjectName) -> RemoteObject | None:
        path = self.path(bucket, name)
        size = self.store.size(path)
        if size is None:
            self.require_there()
            return None
        return RemoteObject(self, path, size)

    def of_kind(self, bucket: UUID, kind: ObjectKind) -> Iterator[FoundFile | str]:
        return bucket_folder.of_kind(self.store, self._top(bucket), kind)

    def _top(self, bucket: UUID) -> str:
        return f"{_BUCKETS}{bucket}/"
