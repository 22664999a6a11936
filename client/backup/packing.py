"""Blobs on their way into packs: each stored once, and only if the vault does not hold it.

Kept true: a blob found in the index counts as stored only if the pinned parent snapshot itself reaches it, or if this
session made or reserved its pack (docs/sessions.md); the plaintext is in hand until that is answered, and is stored
anew if the pack is gone. Data blobs go to one of two open packs at random, so that a pack's borders do not tell the
lengths of neighbouring chunks; trees have packs of their own.
"""

import threading
from collections.abc import Callable, Container, Sequence
from random import Random
from typing import TYPE_CHECKING

from client.backup.request import Counters
from client.backup.upload import Uploader
from client.errors import DamagedVault, ObjectMissing
from client.vault.blobs import BlobId, BlobKind, SealedBlob
from client.vault.index_files import IndexedPack
from client.vault.packs import PackBuilder
from client.vault.repository import Vault

if TYPE_CHECKING:
    from domain.names import ObjectName

_OPEN_PACKS = {BlobKind.DATA: 2, BlobKind.TREE: 1}
_NOTHING: frozenset[BlobId] = frozenset()


class Packer:
    """Says which blobs a vault lacks, to any thread, and fills packs with them once they are sealed."""

    def __init__(
        self,
        vault: Vault,
        uploader: Uploader,
        counters: Counters,
        random: Random,
        *,
        share: int = 1,
    ) -> None:
        """`share`: of how many vaults the packs are filled at once, in the memory that one may take."""
        self._vault = vault
        self._uploader = uploader
        self._counters = counters
        self._random = random
        self._share = share
        self._lock = threading.Lock()
        self._packing = threading.Lock()
        self._trees_doubted = False
        self._claimed: dict[BlobKind, set[BlobId]] = {kind: set() for kind in BlobKind}
        self._open = self._empty_packs()
        self.new_bytes = 0  # plain bytes of what the vault did not have
        self.stored_bytes = 0  # and sealed
        uploader.on_indexed = self._forget

    def store_hashed(
        self,
        kind: BlobKind,
        ids: Sequence[BlobId],
        seal: Callable[[Sequence[int]], list[SealedBlob]],
    ) -> None:
        """See to it that the vault holds blobs when the snapshot is committed: `seal` seals those that it lacks.

        It is given their positions. Raises StoreError, DamagedVault, Stopped.
        """
        missing = self.missing(kind, ids)
        if missing:
            self.pack(kind, seal(missing))

    def distrust_trees(self) -> None:
        """A tree of the parent is lost: from now on one that the index has counts as stored if it can be read."""
        self._trees_doubted = True

    def finish(self) -> None:
        """Hand over the packs that are still open; what comes later goes into others."""
        with self._packing:
            left = [builder for builders in self._open.values() for builder in builders if len(builder)]
            self._open = self._empty_packs()
        for builder in left:
            self._uploader.submit(builder)

    def drop(self) -> None:
        """Hold nothing any more: what is in open packs goes nowhere."""
        with self._packing, self._lock:
            self._open = self._empty_packs()
            self._claimed = {kind: set() for kind in BlobKind}

    def _empty_packs(self) -> dict[BlobKind, list[PackBuilder]]:
        return {kind: [self._empty_pack(kind) for _ in range(number)] for kind, number in _OPEN_PACKS.items()}

    def _empty_pack(self, kind: BlobKind) -> PackBuilder:
        return PackBuilder(self._vault.keys, kind, share=self._share)

    def missing(self, kind: BlobKind, ids: Sequence[BlobId], reached: Container[BlobId] = _NOTHING) -> list[int]:
        """The positions of the blobs that must be stored; they are this caller's to store from now on.

        `reached` are blobs that the pinned parent snapshot reaches. Raises StoreError, Stopped.
        """
        index, uploader = self._vault.index, self._uploader
        lost = self._lost_trees(ids) if kind is BlobKind.TREE and self._trees_doubted else _NOTHING
        missing: list[int] = []
        to_reserve: dict[ObjectName, list[int]] = {}
        with self._lock:
            claimed = self._claimed[kind]
            for position, (identity, places) in enumerate(zip(ids, index.find_each(kind, ids), strict=True)):
                if identity in claimed:
                    continue
                packs = [found.pack for found in places if not uploader.is_gone(found.pack)]
                if not packs or identity in lost:
                    claimed.add(identity)
                    missing.append(position)
                elif identity not in reached and not any(map(uploader.holds, packs)):
                    to_reserve.setdefault(packs[0], []).append(position)
        if to_reserve:
            gone = uploader.reserve(list(to_reserve))
            with self._lock:
                for pack in gone:
                    for position in to_reserve[pack]:
                        if ids[position] not in claimed:
                            claimed.add(ids[position])
                            missing.append(position)
        return missing

    def _lost_trees(self, ids: Sequence[BlobId]) -> frozenset[BlobId]:
        """Those that cannot be read, whatever the index says."""
        lost: set[BlobId] = set()
        for identity in ids:
            try:
                self._vault.load_blob(BlobKind.TREE, identity)
            except (DamagedVault, ObjectMissing):
                lost.add(identity)
        return frozenset(lost)

    def keeps(self, kind: BlobKind, ids: Sequence[BlobId]) -> bool:
        """Whether the vault has all of these blobs, which no parent pins: then their packs are reserved."""
        uploader = self._uploader
        to_reserve: set[ObjectName] = set()
        for places in self._vault.index.find_each(kind, ids):
            packs = [found.pack for found in places if not uploader.is_gone(found.pack)]
            if not packs:
                return False
            if not any(map(uploader.holds, packs)):
                to_reserve.add(packs[0])
        return not (to_reserve and uploader.reserve(list(to_reserve)))

    def pack(self, kind: BlobKind, blobs: Sequence[SealedBlob]) -> None:
        """Put sealed blobs into packs. Raises Stopped."""
        new, stored = sum(blob.length_plain for blob in blobs), sum(blob.length_sealed for blob in blobs)
        self._counters.add(new_bytes=new, stored_bytes=stored)
        # A pack that must wait keeps all others waiting: with those open and those sent it is all that is in memory.
        with self._packing:
            self.new_bytes += new
            self.stored_bytes += stored
            builders = self._open[kind]
            for blob, drawn in zip(blobs, self._random.randbytes(len(blobs)), strict=True):
                at = drawn % len(builders)
                builders[at].add(blob)
                if builders[at].is_full:
                    self._uploader.submit(builders[at])
                    builders[at] = self._empty_pack(kind)

    def _forget(self, kind: BlobKind, pack: IndexedPack) -> None:
        """The index finds its blobs from now on: what is held here does not grow with the backup."""
        with self._lock:
            self._claimed[kind].difference_update(pack.ids)
