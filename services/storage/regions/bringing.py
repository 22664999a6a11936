"""What a pass stores of a bucket that another cluster has.

Kept true: the bucket here is a whole repository at any moment: what is new is listed as snapshots, index files, packs,
and stored the other way round; what a prune there has repacked is stored as by a prune: on all homes, and the brake on
mass removal does not count it as what the bucket had.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from oort.storage.v1.regions_pb2 import Change

from domain.names import SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose
from services.common.database import Database
from services.common.errors import Unavailable
from services.storage.errors import Damaged
from services.storage.regions.passes import Pass
from services.storage.regions.source import Source
from services.storage.store import following
from services.storage.transfer.frames import Frame, get_body, put_frame
from services.storage.transfer.names import name_of
from services.storage.transfer.puts import Put, Puts
from services.storage.volumes.pace import Pace

_TRIES = 3


@dataclass(slots=True)
class Bringer:
    """Brings objects for all buckets that this node is at work on: `streams` at once, at a pace."""

    db: Database
    puts: Puts
    streams: int
    pace: Pace
    _turns: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._turns = asyncio.Semaphore(self.streams)

    async def bring_all(self, this: Pass, after_seq: int) -> None:
        """Store what came after a seq. Listed from snapshots to packs, so that whatever is listed has all it needs."""
        listed = {kind: await self._lacking(this, kind, after_seq) for kind in (ObjectKind.SNAPSHOT, ObjectKind.INDEX)}
        await this.own.begin(Purpose.REPLICATE)
        for kind in (ObjectKind.KEY, ObjectKind.CONFIG):
            await self._bring(this, await self._lacking(this, kind, 0))
        if await this.own.seal() is None:
            await self._bring(this, await self._lacking(this, ObjectKind.SEAL, 0))
        repacked: list[Change] = []
        async with aclosing(this.source.changes(ObjectKind.PACK, after_seq)) as pages:
            async for page in pages:
                lacking = await self._not_here(this, ObjectKind.PACK, page)
                await self._bring(this, [change for change in lacking if not change.repacked])
                repacked += [change for change in lacking if change.repacked]
        if repacked:
            await this.own.begin(Purpose.RETENTION)
            await self._bring(this, repacked)
            await this.own.begin(Purpose.REPLICATE)
        for kind in (ObjectKind.INDEX, ObjectKind.SNAPSHOT):
            await self._bring(this, listed[kind])

    async def replace_seal(self, this: Pass) -> None:
        """Have the seal that is there, in a session of retention; one that cannot be read there is counted."""
        here, there = await this.own.seal(), this.there.seal_sha256
        if here in (None, there) or not there:
            return
        try:
            async with aclosing(self._frames(this.source, SEAL)) as frames:
                body = await _all_of(frames)
        except Damaged as error:
            this.note_damaged(error)
            return
        put = Put(this.own.claims, this.own.open_session, SEAL, there, len(body))
        await self.puts.replace_seal(put, body, here or b"")

    async def _lacking(self, this: Pass, kind: ObjectKind, after_seq: int) -> list[Change]:
        lacking: list[Change] = []
        async with aclosing(this.source.changes(kind, after_seq)) as pages:
            async for page in pages:
                lacking += await self._not_here(this, kind, page)
        return lacking

    async def _not_here(self, this: Pass, kind: ObjectKind, changes: Sequence[Change]) -> list[Change]:
        async with self.db.worker() as unit:
            here = await following.here(unit, this.one.bucket_id, kind, [change.sha256 for change in changes])
        return [change for change in changes if change.sha256 not in here]

    async def _bring(self, this: Pass, changes: Sequence[Change]) -> None:
        """Store objects of one kind; those that no copy there is whole of are counted."""
        for start in range(0, len(changes), self.streams):  # so few at a time that no bucket keeps others waiting long
            some = changes[start : start + self.streams]
            tasks = [asyncio.ensure_future(self._bring_one(this, change)) for change in some]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _bring_one(self, this: Pass, change: Change) -> None:
        name = name_of(change.name)
        # What another one says is no reason to store anything under a name that is not its own.
        digest = change.sha256 if name.kind.is_root_file else bytes.fromhex(name.id)
        put = Put(this.own.claims, this.own.open_session, name, digest, change.size)
        async with self._turns:
            for left in reversed(range(_TRIES)):
                try:
                    async with aclosing(self._frames(this.source, name)) as frames:
                        if name == SEAL:
                            await self.puts.replace_seal(put, await _all_of(frames), b"")
                        else:
                            await self.puts.put(put, frames)
                except Damaged as error:
                    this.note_damaged(error)
                    return
                except Unavailable:
                    if not left:
                        raise
                else:
                    break
        this.objects += 1
        this.bytes += change.size

    async def _frames(self, source: Source, name: ObjectName) -> AsyncGenerator[Frame, None]:
        async with aclosing(source.messages(name)) as messages:
            async for message in messages:
                frame = put_frame([get_body(message)])
                yield frame
                await self.pace.spend(len(frame.body))


async def _all_of(frames: AsyncGenerator[Frame, None]) -> bytes:
    return b"".join([bytes(frame.body) async for frame in frames])
