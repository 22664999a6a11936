"""The vaults that one backup stores in: what is read, cut, hashed and compressed once goes to each that lacks it.

Kept true: each vault has packs, index files and a snapshot of its own, sealed with its own keys; one that has failed
gets nothing more to do, and the backup goes on as long as one is left, without what the other held: its packs, and what
whoever opened it opened. That is given up when nobody is at work for it any more. What fails here and not in a store,
such as a body that does not open to what was sealed, is an error of the whole backup.
"""

import threading
from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import ParamSpec, TypeVar

from client.backup.known import KnownFolder, VaultTrees
from client.backup.packing import Packer
from client.backup.request import Counters
from client.backup.upload import MeteredSession, Uploader
from client.backup.worker import Sealing, VaultSealing
from client.errors import DamagedVault, ObjectMissing, OortError
from client.flow import Crew, Stopped
from client.stores.abc import StoreSession
from client.vault.blobs import BlobId, BlobKind, Buffer, SealedBlob, blob_id
from client.vault.chunker import chunker_seed
from client.vault.pack_contents import still_damaged
from client.vault.repository import Vault
from client.vault.sealing import Compression, Plaintexts
from domain.names import ObjectName

T = TypeVar("T")
P = ParamSpec("P")
Seal = Callable[[int, Sequence[BlobId], Sequence[int]], list[SealedBlob]]

_NOTHING: frozenset[BlobId] = frozenset()
_PATIENCE = 2.0  # seconds that who is at work for a vault that has failed gets to notice by himself


@dataclass(frozen=True, slots=True)
class Target:
    """A vault to back up to, whose `session` was opened with the `parent` snapshot pinned.

    What lies in packs that are `lost` is stored again. `locked` says that the vault's lock file is held, as stores need
    that do not keep sessions apart; `ensure_locked` raises LockLost when it was lost, and is asked before anything is
    stored. Files are cut with `seed`, if it is not the vault's own that its snapshots were cut with. `give_up` is
    called, in a thread of its own, when the vault has failed and others go on: nobody uses vault or session any more.
    """

    vault: Vault
    session: StoreSession
    parent: ObjectName | None = None
    lost: frozenset[ObjectName] = frozenset()
    locked: bool = False
    ensure_locked: Callable[[], None] = lambda: None
    seed: int | None = None
    give_up: Callable[[], object] = lambda: None

    @property
    def cut_seed(self) -> int:
        return chunker_seed(self.vault.keys) if self.seed is None else self.seed


def cut_for(targets: Sequence[Target]) -> Target:
    """The one with whose seed files are cut for all: the first with a parent to compare with, else the first.

    What is unchanged since that parent is then stored as it was cut, and read by nobody but for who lacks it.
    """
    return next((target for target in targets if target.parent is not None), targets[0])


class NobodyLeft(Exception):
    """Every vault has failed, each for its own reason."""


class Destination:
    """One vault of a backup, with the threads that send to it. Safe for any thread."""

    def __init__(
        self, number: int, target: Target, crew: Crew, counters: Counters, random: Random, *, share: int
    ) -> None:
        """`crew` is the part of the backup's that is this vault's."""
        self.number = number
        self.target = target
        self.vault = target.vault
        self.session = MeteredSession(target.session, target.vault, target.ensure_locked)
        self.crew = crew
        self.uploader = Uploader(crew, target.vault, self.session, locked=target.locked, share=share)
        self.packer = Packer(target.vault, self.uploader, counters, random, share=share)
        self.parent_tree: BlobId | None = None
        self.trees: VaultTrees
        self._at_work = 0  # calls of `attempt`
        self._idle = threading.Condition()

    def attempt(self, otherwise: T, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` for this vault answers; `otherwise` if the vault has failed, or fails by it.

        Raises what is no failure of a vault.
        """
        with self._idle:
            self._at_work += 1
        try:
            if self.crew.error is None:
                return work(*args, **kwargs)
        except Stopped:  # a thread of this vault has failed
            pass
        except OortError as error:
            self.crew.fail(error)
        finally:
            with self._idle:
                self._at_work -= 1
                if self.crew.error is not None:
                    self._idle.notify_all()
        return otherwise

    def prepare(self) -> None:
        """Know nothing of what is lost, and find the tree of the parent. Raises StoreError."""
        # As if the vault did not have what was found damaged: what is still here of it is stored again.
        self.vault.index.leave_out(still_damaged(self.vault) | self.target.lost)
        if self.target.parent is not None:
            try:
                self.parent_tree = self.vault.load_snapshot(self.target.parent).tree
            except (DamagedVault, ObjectMissing):
                self.parent_tree = None

    def compare_with(self, known_tree: BlobId | None) -> None:
        """The backup is compared with that tree, whichever vault's parent has it."""
        is_pinned = known_tree is not None and known_tree == self.parent_tree
        self.trees = VaultTrees(self.vault, self.packer.keeps, self.packer.distrust_trees, is_pinned=is_pinned)

    def hand_over(self) -> None:
        """Nothing more comes: what is in open packs is sent too. Raises Stopped."""
        self.packer.finish()
        self.uploader.close()

    def give_up(self) -> None:
        """It has failed: let go of all that is held for it. Who waits for its store is woken by closing the session."""
        with suppress(OortError):  # it has failed, and said why
            self.crew.end(self.session.close)
            if not self._is_left_alone(_PATIENCE):
                self.session.close()
        self._is_left_alone()
        self.packer.drop()
        self.uploader.drop()
        self.compare_with(None)  # and the trees that were read
        self.target.give_up()

    def _is_left_alone(self, seconds: float | None = None) -> bool:
        """Wait until nobody is at work for it, at most so long. Nobody begins, for it has failed."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._at_work, seconds)


class Destinations:
    """All vaults of a backup. Safe for any thread, but for what compares with the parent: that is the scan's."""

    def __init__(
        self, targets: Sequence[Target], crew: Crew, counters: Counters, random: Random, compression: Compression
    ) -> None:
        self._crew = crew
        self._counters = counters
        self.all = [
            Destination(number, target, crew.part(partial(self._failed, number)), counters, random, share=len(targets))
            for number, target in enumerate(targets)
        ]
        vaults = [VaultSealing(one.vault.keys, one.vault.config.version) for one in self.all]
        self.sealing = Sealing(vaults, compression, cut_for(targets).cut_seed)
        self.known_tree: BlobId | None = None  # what the scan compares with

    def uploaded(self) -> int:
        """Bytes that left for all stores."""
        return sum(one.session.uploaded() for one in self.all)

    def prepare(self) -> None:
        """Find what to compare with: the parent of the first vault that has one. Raises Stopped, NobodyLeft."""
        for one in self.all:
            one.attempt(None, one.prepare)
        self.known_tree = next((one.parent_tree for one in self.all if one.parent_tree is not None), None)
        for one in self.all:
            one.compare_with(self.known_tree)

    def start(self) -> None:
        for one in self.all:
            one.attempt(None, one.uploader.start)

    def finish(self) -> None:
        """Wait until all that was stored has been acknowledged, or its vault has failed. Raises Stopped."""
        for one in self.all:
            one.attempt(None, one.hand_over)
        for one in self.all:
            one.attempt(None, one.crew.wait)
        self._crew.ensure_running()

    def end(self) -> None:
        """See those end that have failed, while others went on: what still waits for its store is woken."""
        self._crew.end(self._close_failed)

    def break_off(self) -> None:
        """Wake all that waits for a store: its calls fail."""
        with ExitStack() as stack:
            for one in self.all:
                stack.callback(one.session.close)

    def _close_failed(self) -> None:
        for one in self.all:
            if one.crew.error is not None:
                with suppress(OortError):  # it has failed, and said why
                    one.session.close()

    # What is stored

    def store(self, kind: BlobKind, plaintexts: Sequence[Buffer]) -> list[BlobId]:
        """See to it that every vault holds `plaintexts` when its snapshot is committed, and answer their ids.

        Raises DamagedVault, Stopped.
        """
        ids = [blob_id(plaintext) for plaintext in plaintexts]
        vaults, compression, _ = self.sealing
        batch = Plaintexts(kind, plaintexts, ids, compression, vaults=len(vaults))

        def seal(vault: int, _: Sequence[BlobId], positions: Sequence[int]) -> list[SealedBlob]:
            keys, version = vaults[vault]
            return batch.seal(keys, positions, version=version)

        self.store_hashed(kind, ids, seal)
        return ids

    def store_hashed(
        self, kind: BlobKind, ids: Sequence[BlobId], seal: Seal, reached: Container[BlobId] = _NOTHING
    ) -> None:
        """As `store`, of blobs whose plaintexts are elsewhere.

        `seal` is given the number of a vault, all ids, and the positions of what that lacks. `reached` are blobs that
        the snapshot reaches that the backup is compared with.
        """
        nothing: list[int] = []
        for number, one in enumerate(self.all):
            pinned = reached if one.trees.is_pinned else _NOTHING
            missing = one.attempt(nothing, one.packer.missing, kind, ids, pinned)
            if missing:
                sealed = seal(number, ids, missing)
                one.attempt(None, one.packer.pack, kind, sealed)
        self._crew.ensure_running()

    # What is known, as a scan asks for it

    def load(self, tree: BlobId | None) -> KnownFolder:
        """From the first vault that has it."""
        if tree is not None:
            for source in self._left():
                body = source.attempt(None, source.trees.load_body, tree)
                if body is not None:
                    others = (one for one in self.all if one is not source or not one.trees.is_pinned)
                    is_stored = all(one.attempt(True, one.trees.has_tree, tree) for one in others)
                    return KnownFolder(tree, body, is_stored=is_stored)
        return KnownFolder()

    def has_content(self, content: Sequence[BlobId]) -> bool:
        return all(one.attempt(True, one.trees.has_content, content) for one in self.all)

    def has_tree(self, tree: BlobId) -> bool:
        return all(one.attempt(True, one.trees.has_tree, tree) for one in self.all)

    # Failures

    def _left(self) -> list[Destination]:
        return [one for one in self.all if one.crew.error is None]

    def _failed(self, number: int, error: BaseException) -> None:
        """A vault has failed. What is no error of a store or a vault is one of the backup."""
        if not isinstance(error, OortError):
            self._crew.fail(error)
            return
        is_alone = self._crew.error is None  # else it fails with all
        if is_alone:
            self._counters.failed(number, error)
        if not self._left():
            self._crew.fail(NobodyLeft())
        elif is_alone:
            self._crew.start(f"give-up-{number}", partial(self._give_up, self.all[number]))

    def _give_up(self, one: Destination) -> None:
        """What goes wrong in tidying up after one is no reason to end the others."""
        try:
            one.give_up()
        except Exception as error:  # noqa: BLE001 - it has failed already, and why was told
            self._counters.note(f"A vault that has failed could not be tidied up: {type(error).__name__}: {error}")
