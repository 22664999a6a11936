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
from client.backup.worker import Sealing
from client.errors import DamagedVault, ObjectMissing
from client.vault.blobs import BlobId, BlobKind, Buffer, SealedBlob, blob_id
from client.vault.index_files import IndexedPack
from client.vault.packs import PackBuilder
from client.vault.repository import Vault
from client.vault.sealing import Compression, seal_batch

if TYPE_CHECKING:
    from domain.names import ObjectName

_OPEN_PACKS = {BlobKind.DATA: 2, BlobKind.TREE: 1}
_NOTHING: frozenset[BlobId] = frozenset()


class Packer:
    """Takes plaintexts from any thread, answers their ids, and fills packs with those that are new."""

    def __init__(
        self,
        vault: Vault,
        uploader: Uploader,
        counters: Counters,
        random: Random,
        compression: Compression = Compression.AUTO,
    ) -> None:
        self._vault = vault
        self._uploader = uploader
        self._counters = counters
        self._random = random
        self.sealing = Sealing(vault.keys, vault.config.version, compression)
        self._lock = threading.Lock()
        self._packing = threading.Lock()
        self._trees_doubted = False
        self._claimed: dict[BlobKind, set[BlobId]] = {kind: set() for kind in BlobKind}
        self._open = self._empty_packs()
        uploader.on_indexed = self._forget

    def store(
        self, kind: BlobKind, plaintexts: Sequence[Buffer], reached: Container[BlobId] = _NOTHING
    ) -> list[BlobId]:
        """See to it that the vault holds `plaintexts` when the snapshot is committed, and answer their ids.

        `reached` are blobs that the pinned parent snapshot reaches. Raises StoreError, DamagedVault, Stopped.
        """
        ids = [blob_id(plaintext) for plaintext in plaintexts]

        def seal(positions: Sequence[int]) -> list[SealedBlob]:
            keys, version, compression = self.sealing
            new, new_ids = [plaintexts[at] for at in positions], [ids[at] for at in positions]
            return seal_batch(keys, kind, new, ids=new_ids, version=version, compression=compression)

        self.store_hashed(kind, ids, seal, reached)
        return ids

    def store_hashed(
        self,
        kind: BlobKind,
        ids: Sequence[BlobId],
        seal: Callable[[Sequence[int]], list[SealedBlob]],
        reached: Container[BlobId] = _NOTHING,
    ) -> None:
        """As `store`, of blobs whose plaintexts are elsewhere: `seal` seals those at the positions that it is given."""
        missing = self._missing(kind, ids, reached)
        if missing:
            sealed = seal(missing)
            self._counters.add(
                new_bytes=sum(blob.length_plain for blob in sealed),
                stored_bytes=sum(blob.length_sealed for blob in sealed),
            )
            self._pack(kind, sealed)

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

    def _empty_packs(self) -> dict[BlobKind, list[PackBuilder]]:
        return {
            kind: [PackBuilder(self._vault.keys, kind) for _ in range(number)] for kind, number in _OPEN_PACKS.items()
        }

    def _missing(self, kind: BlobKind, ids: Sequence[BlobId], reached: Container[BlobId]) -> list[int]:
        """The positions of the blobs that must be stored; they are this caller's to store from now on."""
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

    def _pack(self, kind: BlobKind, blobs: Sequence[SealedBlob]) -> None:
        # A pack that must wait keeps all others waiting: with those open and those sent it is all that is in memory.
        with self._packing:
            builders = self._open[kind]
            for blob, drawn in zip(blobs, self._random.randbytes(len(blobs)), strict=True):
                at = drawn % len(builders)
                builders[at].add(blob)
                if builders[at].is_full:
                    self._uploader.submit(builders[at])
                    builders[at] = PackBuilder(self._vault.keys, kind)

    def _forget(self, kind: BlobKind, pack: IndexedPack) -> None:
        """The index finds its blobs from now on: what is held here does not grow with the backup."""
        with self._lock:
            self._claimed[kind].difference_update(pack.ids)
