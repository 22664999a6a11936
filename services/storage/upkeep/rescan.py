"""The catalogue made again from a node's disks, when the database was lost or is older than they are.

Kept true:
- nothing that the catalogue knows is taken away, and what it says is changed only where a file that was read whole
  proves it wrong; so a rescan may be interrupted and repeated, and run beside everything else;
- a bucket is entered with its root files, or not at all, and nothing is removed from it before `finish`;
- what cannot be read of one bucket holds up no other;
- whose a bucket is says the auth role alone: a folder of which it knows no vault is left as it is;
- objects are entered by their names, the two root files by their content; each is the first that scrubbing reads;
- a home that lacks what another one has is entered as lacking it, and gets it from there: whoever is entered as a home
  lacks all, in the same transaction, until the node has read what it has of it (own.py).
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from domain.names import SEAL, ObjectKind
from services.common.database import Database, Unit
from services.common.errors import Unavailable
from services.storage.errors import DiskFull
from services.storage.removal.holding import adopting_reason
from services.storage.store import buckets, copies, followed, following, homes, nodes, objects, rescans
from services.storage.store.buckets import BucketState, NewBucket
from services.storage.store.objects import NewObject
from services.storage.store.rescans import FoundFile, KnownObject
from services.storage.upkeep.placement import is_spared
from services.storage.volumes.disks import Disks
from services.storage.volumes.found import Pages
from services.storage.volumes.threads import DiskThreads
from services.storage.volumes.volume import WaitingBody, hash_of

_OWNERS_AT_ONCE = 500
_NAMED_AT_MOST = 1000
_JUDGED_SECONDS = 120.0
_RESCAN = UUID(int=0)  # as a bucket in use, which none is: one rescan at a time in all workers

# Of buckets by their ids, those that the auth role knows.
AskOwners = Callable[[Sequence[UUID]], Awaitable[list[NewBucket]]]


@dataclass(slots=True)
class Tally:
    """What a rescan has come to so far."""

    buckets: int = 0
    homes: int = 0
    objects: int = 0
    bytes: int = 0
    foreign: int = 0
    keys: int = 0
    unknown: list[UUID] = field(default_factory=list)
    failed: dict[UUID, str] = field(default_factory=dict)  # why
    with_keys: list[UUID] = field(default_factory=list)  # of which were entered


@dataclass(frozen=True, slots=True)
class New:
    """What is entered with the first page of a bucket that this node is no home of: its row too, if there is none."""

    owner: NewBucket | None


class Rescan:
    """The disks of one node. `compare` enters what of a bucket they lack (reconcile.py)."""

    def __init__(
        self,
        node: str,
        db: Database,
        disks: Disks,
        threads: DiskThreads,
        *,
        owners: AskOwners,
        compare: Callable[[UUID], Awaitable[object]],
        silent_seconds: float,
    ) -> None:
        self._node = node
        self._db = db
        self._disks = disks
        self._threads = threads
        self._owners = owners
        self._compare = compare
        self._silent_seconds = silent_seconds
        self._log = structlog.get_logger("storage")

    async def run(self) -> AsyncGenerator[Tally, None]:
        """How far it is, the last time at its end. Raises Unavailable when a disk, auth or the database is away."""
        async with self._disks.in_use.alone(_RESCAN):
            tally = Tally()
            found = sorted(await self._threads.run(self._disks.buckets))
            await self._require_all()
            for start in range(0, len(found), _OWNERS_AT_ONCE):
                some = found[start : start + _OWNERS_AT_ONCE]
                owners = {owner.id: owner for owner in await self._owners(some)}
                for bucket in some:
                    try:
                        async with (
                            self._disks.in_use.shared(bucket),
                            aclosing(self._bucket(bucket, owners.get(bucket), tally)) as pages,
                        ):
                            async for _ in pages:
                                yield tally
                    except (OSError, DiskFull) as error:
                        self._fail(bucket, str(error), tally)
            await self._require_all()
            if not tally.failed:
                async with self._db.worker() as unit:
                    await nodes.was_read(unit, self._node)
            self._log.info("rescanned", buckets=tally.buckets, objects=tally.objects, unknown=len(tally.unknown))
            yield tally

    def _fail(self, bucket: UUID, why: str, tally: Tally) -> None:
        self._log.error("a bucket cannot be rescanned", bucket=str(bucket), cause=why)
        if len(tally.failed) < _NAMED_AT_MOST:
            tally.failed[bucket] = why

    async def finish(self) -> int:
        """Every node was rescanned, and all was read: let go of the buckets that were added. Answers how many."""
        async with self._db.worker() as unit:
            return await rescans.release(unit)

    async def _bucket(self, bucket: UUID, owner: NewBucket | None, tally: Tally) -> AsyncGenerator[None, None]:
        is_home = await self._is_home(bucket)
        if is_home is None and owner is None:
            self._log.warning("auth knows no vault of a bucket's folder", bucket=str(bucket))
            if len(tally.unknown) < _NAMED_AT_MOST:
                tally.unknown.append(bucket)
            return
        if not is_home and await self._is_former(bucket):
            return
        if is_home and (waits := await self._waits_for_adoption(bucket)):
            self._fail(bucket, waits, tally)
            return
        tally.buckets += 1
        if not is_home:
            # Before the node is a home, since then what no session calls for is thrown away.
            await self._place_staged(bucket)
        pages, threads = Pages(self._disks, bucket), self._threads.of(bucket)
        # The first page has the root files, and goes with the bucket: without a config it would be taken for a new one.
        files = await threads.run(pages.next)
        new = None if is_home else New(owner)
        while files or new is not None:
            entered = await self._enter(bucket, files, new)
            tally.homes += new is not None
            new = None
            tally.objects += len(entered)
            tally.bytes += sum(one.size for one in entered)
            self._count_keys(bucket, entered, tally)
            yield
            files = await threads.run(pages.next)
        tally.foreign += pages.foreign
        await self._compare(bucket)
        yield

    async def _is_home(self, bucket: UUID) -> bool | None:
        """Whether this node is a home of the bucket; None if the catalogue does not know it."""
        async with self._db.worker() as unit:
            if await buckets.peek(unit, bucket) is None:
                return None
            return self._node in await homes.home_nodes(unit, bucket)

    async def _waits_for_adoption(self, bucket: UUID) -> str:
        """Why what lies there is left to an adoption, which brings back what that may need; empty if it is not."""
        async with self._db.worker() as unit:
            state = await buckets.peek(unit, bucket)
        return adopting_reason(bucket) if state and state.adopting else ""

    async def _is_former(self, bucket: UUID) -> bool:
        """Whether the files are those of a former home, which removes them.

        Where the homes do not hold all, as after a copy of the database of that time was put back, it is to remove
        nothing any more, and can be a home again.
        """
        async with self._db.worker() as unit:
            state = await buckets.lock(unit, bucket)
            order = await homes.clearing_of(unit, bucket, self._node)
            if state is None or order is None:
                return False
            found = await homes.states(unit, bucket, self._silent_seconds)
            if is_spared(self._node, found, state.copies):
                return True
        await self._threads.run(lambda: self._disks.note(order.id))
        async with self._db.worker() as unit:
            await buckets.lock(unit, bucket)
            await homes.cleared(unit, bucket, self._node)
        self._log.warning("a former home is needed after all", bucket=str(bucket))
        return False

    def _count_keys(self, bucket: UUID, entered: Sequence[KnownObject], tally: Tally) -> None:
        keys = sum(one.name.kind is ObjectKind.KEY for one in entered)
        tally.keys += keys
        if keys and bucket not in tally.with_keys[-1:] and len(tally.with_keys) < _NAMED_AT_MOST:
            tally.with_keys.append(bucket)

    async def _place_staged(self, bucket: UUID) -> None:
        """What a put had made durable and not placed when the catalogue was lost may have been acknowledged."""
        threads = self._threads.of(bucket, sends=True)
        for disk in self._disks:
            for waiting in await threads.run(lambda disk=disk: list(disk.staged(bucket))):  # type: ignore[misc] # mypy infers no default
                if await threads.run(lambda waiting=waiting: self._place(waiting)):  # type: ignore[misc] # mypy infers no default
                    self._log.info("placed an incoming file", bucket=str(bucket), name=str(waiting.staged.name))

    async def _enter(self, bucket: UUID, files: Sequence[FoundFile], new: New | None) -> list[KnownObject]:
        """Enter what is not known of a page of files, with a `new` home, and judge those that are known otherwise."""
        async with self._db.worker() as unit:
            if new is not None and new.owner is not None:
                await rescans.add_bucket(unit, new.owner)
            state = await buckets.lock(unit, bucket)
            if new is not None:
                await homes.join(unit, bucket, self._node)
                # All at once: the files of the root are judged before the node fetches what it lacks.
                while await homes.enter_page(unit, bucket):
                    pass
                await rescans.joined_with(unit, bucket, self._node, files)
                await rescans.copies_as_homes(unit, bucket)
            if self._node not in await homes.home_nodes(unit, bucket):
                return []  # it has left meanwhile
            entered = await rescans.enter(unit, bucket, self._node, files)
            if entered and state and await following.distrust(unit, bucket):
                await followed.end_writers(unit, bucket, state.seq + 1)
            otherwise = await rescans.otherwise(unit, bucket, files)
            if new is not None:
                for known in otherwise:  # replication does not put another file there before it is judged
                    await copies.retry_after(unit, known.id, self._node, _JUDGED_SECONDS)
        by_name = {file.name: file for file in files}
        for known in otherwise:
            await self._judge(bucket, known, by_name[known.name], is_new=new is not None)
        # Its file may have been removed since it was listed, and its row with it: then it was entered in vain.
        absent = await self._threads.of(bucket).run(
            lambda: self._disks.lacking(bucket, [(one.name, one.size) for one in entered])
        )
        if not absent:
            return entered
        async with self._db.worker() as unit:
            await buckets.lock(unit, bucket)
            await rescans.take_back(unit, bucket, [one.id for one in entered if one.name in absent])
        return [one for one in entered if one.name not in absent]

    async def _judge(self, bucket: UUID, known: KnownObject, file: FoundFile, *, is_new: bool) -> None:
        """A file of another size or content than the catalogue says: which of the two is right?

        Of two seals the one that was written last, but none of a node that is known to have missed another; the content
        of every other file has the SHA-256 of its name. A home that `is_new` lacks all, and has not missed any.
        """
        is_right = not file.name.kind.is_root_file or (file.name == SEAL and file.modified > known.created)
        if is_right and file.name == SEAL:
            is_right = is_new or not await self._lacks(known)
        if is_right:
            # After that look and before the lock, which nobody is to wait for while a disk or a store is read.
            digest = await self._threads.of(bucket).run(
                lambda: self._disks.hash(bucket, file.name, file.size, file.sha256, keep=False)
            )
            if file.name == SEAL and digest != file.sha256:
                return  # the one that it had missed came since it was listed
            is_right = digest == file.sha256
        async with self._db.worker() as unit:
            state = await buckets.lock(unit, bucket)
            if state is None or self._node not in await homes.home_nodes(unit, bucket):
                return  # it has left since the look
            if is_right and file.name == SEAL:
                is_right = is_new or not await rescans.lacks(unit, known.id, self._node)
            self._log.warning(
                "a file is not what the catalogue says", bucket=str(bucket), name=str(file.name), right=is_right
            )
            if is_right:
                await self._correct(unit, state, known, file)
            else:
                await copies.add(unit, known.id, self._node)

    async def _lacks(self, known: KnownObject) -> bool:
        async with self._db.worker() as unit:
            return await rescans.lacks(unit, known.id, self._node)

    async def _correct(self, unit: Unit, state: BucketState, known: KnownObject, file: FoundFile) -> None:
        row = await objects.find(unit, state.id, file.name)
        if row is None or (row.id, row.sha256) != (known.id, known.sha256) or row.state == "deleting":
            return
        corrected = NewObject(file.name, file.sha256, file.size, [self._node])
        await objects.replace(unit, state, row, corrected, row.sha256)
        await copies.clear(unit, row.id, [self._node])

    async def _require_all(self) -> None:
        if not await self._threads.run(lambda: self._disks.all_there):
            raise Unavailable(what=f"A disk of node {self._node}")

    def _place(self, waiting: WaitingBody) -> bool:
        """Place a whole incoming body whose object is not there."""
        content = None if self._disks.is_taken(waiting) else waiting.open()
        if content is None:
            return False
        opened, size = content
        try:
            is_whole = hash_of(opened, size) == waiting.staged.sha256
        finally:
            opened.close()
        if is_whole:
            self._disks.place(waiting)
        return is_whole
