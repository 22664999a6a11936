"""Files that somebody has copied by hand into a bucket's folder, entered in the catalogue where they lie.

Kept true (docs/decisions/adoption.md has the argument):
- nothing is entered but what was read whole from the disk, after it was synced there, has the SHA-256 of its name, and
  did not change meanwhile; what is left out stays where it is, and is named with the reason;
- it is entered as a put is, in the operator's open adoption, under the bucket's lock and its quotas, as received now,
  with this node as its holder: every other home lacks it;
- what the catalogue knows stays as it is. What was removed and lies in the waste basket does not come back by its file
  lying here; but before an index file or a snapshot is entered, every pack and index file of the basket lives again, as
  a node cannot read which of them it needs;
- from the first look at packs until an adoption has found all files in, whatever became of the ones before it, nothing
  that they may need is condemned or becomes `deleting`: a repeat finds what was entered, and what lay there;
- whoever is asked first whether a name is known finds no removal of it under way later: while the adoption is open
  nothing that is condemned becomes `deleting`.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

import structlog

from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import MAX_SNAPSHOT_BYTES, Purpose
from domain.tokens import VaultClaims
from services.common.database import Database, Unit
from services.common.errors import NotAllowed, Unavailable
from services.storage.access.quotas import require_room
from services.storage.errors import NoHome, NotInitialised
from services.storage.removal.basket import Baskets
from services.storage.sessions.standing import lock, require_writing, writing
from services.storage.store import adoptions, homes, nodes, objects, puts
from services.storage.store.objects import NewObject
from services.storage.store.rescans import FoundFile
from services.storage.store.sessions import SessionRow
from services.storage.transfer.patience import Patience
from services.storage.volumes.copied import Unfit
from services.storage.volumes.disk import Disk
from services.storage.volumes.disks import Disks
from services.storage.volumes.steady import SteadyReader, to_the_end
from services.storage.volumes.threads import DiskThreads
from services.storage.volumes.volume import CopiedObject, Volume

KINDS = (ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.SNAPSHOT)
_LARGEST = {ObjectKind.CONFIG: 1 << 20, ObjectKind.SEAL: 64 << 10, ObjectKind.KEY: 64 << 10}
_AT_ONCE = 1000
_BEING_REMOVED = "it is just being removed from the disks"
_LOST_INDEX = "an index file that it may need lies in the waste basket, and no copy of that is whole"
_ARRIVING = "it has the temporary name of a copy: that goes on, or was broken off"
_OTHER_SEAL = "their contents differ: remove those that are not this vault's newest"
_OUTDATED = "Nothing is adopted while nodes of an earlier version run, which keep nothing for it: upgrade all first."
_NO_NAME = "its name is not that of an object in this place"
# `.NAME.Xy12Zz`, `.rsync-partial/` and `.~tmp~/` of rsync, `NAME.part` and the like.
_is_temporary = re.compile(
    r"(.*/)?(\.~tmp~|\.rsync[^/]*)(/.*)?|(.*/)?([^/]+[0-9a-f]{64}[^/]*|[0-9a-f]{64}[^/]+)"
).fullmatch
# Of a kind that lists another one there is nothing to enter while there is none of that.
_LISTED = {ObjectKind.INDEX: (ObjectKind.PACK, "pack"), ObjectKind.SNAPSHOT: (ObjectKind.INDEX, "index file")}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """`name` is an object's, or a path in the bucket's folder."""

    name: str
    reason: str
    passing: bool = False


@dataclass(slots=True)
class Tally:
    """What an adoption of one kind has come to; `left_out` are those since it was taken last."""

    objects: int = 0
    bytes: int = 0
    known: int = 0
    in_basket: int = 0
    revived: int = 0
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, name: object, reason: str, *, passing: bool = False) -> None:
        text = "".join(one if one.isprintable() else "?" for one in str(name))
        self.left_out.append(LeftOut(text, reason, passing))

    def take_left_out(self) -> list[LeftOut]:
        """What nobody was told of yet."""
        taken, self.left_out = self.left_out, []
        return taken


@dataclass(frozen=True, slots=True)
class Root:
    """A small file by which a vault begins; with `refused`, why it is not to be taken."""

    name: str
    body: bytes = b""
    refused: str = ""


class Adoption:
    """The files of one node."""

    def __init__(
        self,
        node: str,
        db: Database,
        disks: Disks,
        threads: DiskThreads,
        *,
        reader: SteadyReader,
        baskets: Baskets,
        patience: Patience,
        silent_seconds: float,
    ) -> None:
        self._node = node
        self._db = db
        self._disks = disks
        self._threads = threads
        self._reader = reader
        self._baskets = baskets
        self._patience = patience
        self._silent_seconds = silent_seconds
        self._log = structlog.get_logger("storage")

    async def roots(self, claims: VaultClaims, session: UUID) -> AsyncGenerator[Root, None]:
        """`config` and the seal as they lie here, and keys that the catalogue does not know.

        Raises as `run`, but for a vault that has no `config` yet.
        """
        async with self._db.unit(claims.tenant, claims.user) as unit:
            await self._require(unit, claims, session)
        seals: set[bytes] = set()
        async with self._disks.in_use.shared(claims.bucket):
            for volume in await self._holding(claims.bucket):
                for name in (CONFIG, SEAL):
                    root = await self._root(volume, claims.bucket, name)
                    if root is not None:
                        yield root
                        seals |= {root.body} if name == SEAL and not root.refused else set()
                keys = volume.of_kind(claims.bucket, ObjectKind.KEY)
                while page := await self._page(claims.bucket, keys):
                    tally = Tally()
                    for file in await self._unknown(claims, session, ObjectKind.KEY, page, tally):
                        root = await self._root(volume, claims.bucket, file.name)
                        if root is not None:
                            yield root
                    for left in tally.take_left_out():
                        yield Root(left.name, refused=left.reason)
        if len(seals) > 1:
            yield Root(f"{SEAL} on several disks of node {self._node}", refused=_OTHER_SEAL)

    async def run(
        self, claims: VaultClaims, session: UUID, kind: ObjectKind, withheld: str = ""
    ) -> AsyncGenerator[Tally, None]:
        """Enter the files of a kind that are not known; how far it is, the last time at its end.

        With `withheld` nothing is read or entered, and what might have been is left out with this reason. Raises
        SessionOver, NotAllowed, NoHome, NotInitialised, QuotaExceeded, Unavailable when a disk or the database is away.
        """
        tally, is_prepared = Tally(), kind is ObjectKind.PACK
        async with self._db.worker() as unit:
            if await nodes.outdated(unit, self._silent_seconds):
                raise NotAllowed(detail=_OUTDATED)
        async with self._db.unit(claims.tenant, claims.user) as unit:
            bucket = await lock(unit, claims, session)
            await self._require(unit, claims, session)
            if await objects.find(unit, claims.bucket, CONFIG) is None:
                raise NotInitialised(bucket=claims.bucket)
            if not bucket.adopting:
                await adoptions.begin(unit, claims.bucket)
        # No file moves from a disk that is still to be listed to one that was: moves.py passes the bucket over.
        async with self._disks.in_use.shared(claims.bucket):
            for volume in await self._holding(claims.bucket):
                files = volume.of_kind(claims.bucket, kind)
                while page := await self._page(claims.bucket, files):
                    unknown = await self._unknown(claims, session, kind, page, tally)
                    if not withheld:
                        new = {file.name for file in unknown}
                        known = [file for file in page if isinstance(file, FoundFile) and file.name not in new]
                        await self._keep_whole(claims, session, volume, known)
                    for file in unknown:
                        if withheld:
                            tally.leave_out(file.name, withheld)
                            continue
                        is_prepared = is_prepared or await self._prepare(claims, session, volume, file, tally)
                        if is_prepared:
                            await self._take(claims, session, volume, file, tally)
                        yield tally
                    yield tally
            await self._holding(claims.bucket)  # what went away meanwhile was not looked through
        self._log.info("adopted", bucket=str(claims.bucket), kind=kind.value, objects=tally.objects)
        yield tally

    async def finish(self, claims: VaultClaims, session: UUID) -> bool:
        """What is adopted is all in: from now on what nothing needs may go again. False while another adoption is open.

        Raises SessionOver, NotAllowed.
        """
        async with self._db.unit(claims.tenant, claims.user) as unit:
            await lock(unit, claims, session)
            _require_adoption(await writing(unit, claims, session))
            return await adoptions.finish(unit, claims.bucket, session)

    async def _require(self, unit: Unit, claims: VaultClaims, session: UUID) -> None:
        _require_adoption(await writing(unit, claims, session))
        if self._node not in await homes.home_nodes(unit, claims.bucket):
            raise NoHome(node=self._node, bucket=claims.bucket)

    async def _holding(self, bucket: UUID) -> Sequence[Volume]:
        """Raises Unavailable when a disk is away, on which there may be more."""
        if not await self._threads.run(lambda: self._disks.all_there):
            raise Unavailable(what=f"A disk of node {self._node}")
        return await self._threads.run(lambda: self._disks.holding(bucket))

    async def _page(self, bucket: UUID, files: Iterator[FoundFile | str]) -> list[FoundFile | str]:
        try:
            return await self._threads.of(bucket).run(lambda: list(islice(files, _AT_ONCE)))
        except OSError as error:
            raise Unavailable(what=f"A folder of bucket {bucket} on node {self._node} ({error})") from error

    async def _unknown(
        self, claims: VaultClaims, session: UUID, kind: ObjectKind, page: Sequence[FoundFile | str], tally: Tally
    ) -> list[FoundFile]:
        """Those of a page that the catalogue knows nothing of: not even that they are being removed."""
        found = [file for file in page if not isinstance(file, str)]
        for path in page:
            if isinstance(path, str):
                is_arriving = _is_temporary(path) is not None
                tally.leave_out(path, _ARRIVING if is_arriving else _NO_NAME, passing=is_arriving)
        async with self._db.unit(claims.tenant, claims.user) as unit:
            await self._require(unit, claims, session)
            states = await adoptions.states(unit, claims.bucket, kind, [file.sha256 for file in found])
        unknown = []
        for file in found:
            match states.get(file.sha256):
                case None:
                    unknown.append(file)
                case "deleting":
                    tally.leave_out(file.name, _BEING_REMOVED, passing=True)
                case "condemned":
                    tally.in_basket += 1
                case _:
                    tally.known += 1
        return unknown

    async def _root(self, volume: Volume, bucket: UUID, name: ObjectName) -> Root | None:
        most, threads = _LARGEST[name.kind], self._threads.of(bucket)
        try:
            async with _opened(threads, volume, bucket, name) as opened:
                if opened is None:
                    return None
                if opened.size > most:
                    return Root(str(name), refused=f"it has {opened.size} bytes: at most {most} are taken")
                return Root(str(name), await to_the_end(threads.run(lambda: opened.read(0, opened.size))))
        except Unfit as unfit:
            return Root(str(name), refused=str(unfit))
        except OSError as error:
            return Root(str(name), refused=f"it cannot be read: {error.strerror}")

    async def _prepare(self, claims: VaultClaims, session: UUID, volume: Volume, file: FoundFile, tally: Tally) -> bool:
        """See to it that nothing which an index file or a snapshot may need is on its way out.

        False, and nothing done, if the file is none that will be entered, which is noted.
        """
        if await self._whole(claims, session, volume, file, tally) is None:
            return False
        async with aclosing(self._baskets.bring_back_needed(claims.bucket, session)) as steps:
            async for step in steps:
                tally.revived += len(step.restored)
        return True

    async def _take(self, claims: VaultClaims, session: UUID, volume: Volume, file: FoundFile, tally: Tally) -> None:
        new = await self._whole(claims, session, volume, file, tally)
        if new is not None and await self._enter(claims, session, new, tally):
            await self._keep_one(volume, claims.bucket, file.name)

    async def _keep_whole(self, claims: VaultClaims, session: UUID, volume: Volume, known: Sequence[FoundFile]) -> None:
        """Of what other disks have too, keep the file here alone if it is whole.

        A damaged one could be read in place of theirs. If none is whole, scrubbing finds that.
        """
        others = [disk for disk in self._disks.places.disks if disk is not volume]
        for file in await self._reader.thread.run(lambda: _lying_on(others, claims.bucket, known)):
            if await self._whole(claims, session, volume, file, Tally()) is not None:
                await self._keep_one(volume, claims.bucket, file.name)

    async def _keep_one(self, volume: Volume, bucket: UUID, name: ObjectName) -> None:
        """Remove what other disks of the node have in the place of a file that was found whole. Raises Unavailable."""
        if not isinstance(volume, Disk):
            return
        try:
            await to_the_end(self._reader.thread.run(lambda: self._disks.places.keep_one(volume, bucket, name)))
        except OSError as error:
            raise Unavailable(what=f"A disk of node {self._node} ({error})") from error

    async def _whole(
        self, claims: VaultClaims, session: UUID, volume: Volume, file: FoundFile, tally: Tally
    ) -> NewObject | None:
        """What is to be entered; None, which is noted, if the file is not what its name says, or has gone."""
        try:
            async with _opened(self._reader.thread, volume, claims.bucket, file.name) as opened:
                size = await self._verify(opened, file.name)
                return NewObject(file.name, file.sha256, size, [self._node])
        except OSError as error:
            tally.leave_out(file.name, f"it cannot be read: {error.strerror}")
        except Unfit as unfit:
            # Somebody may have put it meanwhile, over this very file.
            if not unfit.passing or await self._unknown(claims, session, file.name.kind, [file], tally):
                tally.leave_out(file.name, str(unfit), passing=unfit.passing)
        return None

    async def _verify(self, opened: CopiedObject | None, name: ObjectName) -> int:
        """Answers its bytes. Raises Unfit."""
        if opened is None:
            raise Unfit("it has gone since it was listed", passing=True)
        if name.kind is ObjectKind.SNAPSHOT and opened.size > MAX_SNAPSHOT_BYTES:
            raise Unfit(f"a snapshot has at most {MAX_SNAPSHOT_BYTES} bytes")
        digest = await self._reader.hash(opened, opened.size, lambda _size: None)
        if not await to_the_end(self._reader.thread.run(opened.is_unchanged)):
            raise Unfit("it changed while it was read: is a copy going on?", passing=True)
        if digest is None or digest.hex() != name.id:
            raise Unfit("its content has another SHA-256 than its name")
        return opened.size

    async def _enter(self, claims: VaultClaims, session: UUID, new: NewObject, tally: Tally) -> bool:
        """False if it is left out, which is noted."""
        if new.name.kind is ObjectKind.SNAPSHOT and await self._baskets.lacks_index(claims.bucket):
            tally.leave_out(new.name, _LOST_INDEX)
            return False
        try:
            entered = await self._patience.enter(
                claims.tenant, lambda: enter(self._db, claims, session, new, self._node), claims.bucket
            )
        except Unfit as unfit:
            tally.leave_out(new.name, str(unfit), passing=unfit.passing)
            return False
        if entered:
            tally.objects += 1
            tally.bytes += new.size
        else:
            tally.known += 1
        return True


def _lying_on(disks: Sequence[Disk], bucket: UUID, found: Sequence[FoundFile]) -> list[FoundFile]:
    """Those of which something lies on one of the disks as well."""
    return [file for file in found if any(disk.has(bucket, file.name) for disk in disks)]


def _require_adoption(row: SessionRow) -> None:
    if row.purpose != Purpose.ADOPT:
        raise NotAllowed(detail="Only an adoption enters what was copied by hand.")


@asynccontextmanager
async def _opened(
    threads: DiskThreads, volume: Volume, bucket: UUID, name: ObjectName
) -> AsyncIterator[CopiedObject | None]:
    opened = await threads.open(lambda: volume.copied(bucket, name))
    try:
        yield opened
    finally:
        if opened is not None:
            opened.close()


async def enter(db: Database, claims: VaultClaims, session: UUID, new: NewObject, node: str) -> bool:
    """Enter a file that `node` holds; False if somebody has put it meanwhile.

    Raises SessionOver, QuotaExceeded, NoHome; Unfit where nothing is there that an index file or a snapshot could list.
    """
    async with db.unit(claims.tenant, claims.user) as unit:
        await lock(unit, claims, session)
        # In a statement of its own: its snapshot is taken when the lock is held.
        asked = await puts.standing(unit, claims.bucket, session, new.name)
        if asked is None or node not in asked.home_nodes:
            raise NoHome(node=node, bucket=claims.bucket)
        row = require_writing(asked.session, claims, session)
        if asked.found is not None:
            return False
        kind, word = _LISTED.get(new.name.kind, (None, ""))
        if kind is not None and not await objects.is_other_live(unit, claims.bucket, kind, []):
            raise Unfit(f"the bucket has not one {word}")
        await require_room(unit, asked.bucket, claims, row, new.name.kind, size=new.size, shared=asked.limits)
        await objects.insert(unit, asked.bucket, session, asked.bucket.seq + 1, new)
        return True
