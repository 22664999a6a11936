"""Snapshots and key files as the device keeps them, so that a command does not fetch what earlier ones have read.

Kept true: which objects exist is asked of the node in every session, and what is kept stands in only for an object that
the node has named in this one; it is used whole, and only if it has the SHA-256 that is its name. The folder may be
deleted, be full or hold rubbish, and the worst is that objects are fetched.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from client.disk import private
from client.stores.abc import Buffer, ObjectInfo, Refusal
from client.stores.limited import LimitedSession, LimitedStore
from client.stores.node.session import NodeSession
from client.stores.node.store import NodeStore
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

# What every command reads, each object of it small; index files have a cache of their own.
KINDS = frozenset((ObjectKind.SNAPSHOT, ObjectKind.KEY))
_LARGEST = 64 << 10  # bytes of one that is kept


class KeptObjects:
    """A folder of objects, by kind and id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: ObjectName) -> bytes | None:
        """The object, if it is here and whole."""
        try:
            body = self._place(name).read_bytes()
        except OSError:
            return None
        return body if ObjectName.of(name.kind, body) == name else None

    def keep(self, name: ObjectName, body: bytes) -> None:
        """Put an object here, if there is room. It need not be durable, as it is verified when it is read."""
        if len(body) > _LARGEST:
            return
        place = self._place(name)
        beside = place.with_name(f"{place.name}.{secrets.token_hex(4)}")
        with suppress(OSError):
            for folder in (self._folder, place.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            try:
                with open(beside, "xb", opener=private) as file:
                    file.write(body)
                beside.replace(place)
            except OSError:
                beside.unlink(missing_ok=True)
                raise

    def keep_only(self, kind: ObjectKind, ids: set[str]) -> None:
        """Let go of the objects of a kind that the vault has no more, and of what an interrupted write has left."""
        with suppress(OSError):
            for path in (self._folder / kind.value).iterdir():
                if path.name not in ids:
                    with suppress(OSError):
                        path.unlink(missing_ok=True)

    def _place(self, name: ObjectName) -> Path:
        return self._folder / name.kind.value / name.id


class KeepingStore:
    """A NodeStore, perhaps a limited one, whose small objects are kept in a folder."""

    needs_locks = NodeStore.needs_locks

    def __init__(self, store: NodeStore | LimitedStore, folder: Path) -> None:
        self._store = store
        self._kept = KeptObjects(folder)

    @property
    def place(self) -> str:
        return self._store.place

    def allows(self, purpose: Purpose) -> bool:
        return self._store.allows(purpose)

    def open(self, purpose: Purpose, parent: ObjectName | None = None) -> "KeepingSession":
        return KeepingSession(self._store.open(purpose, parent), self._kept, parent)

    def close(self) -> None:
        self._store.close()


class KeepingSession:
    """A session of it. The parent that it was opened with is there, for the node has pinned it."""

    def __init__(self, session: NodeSession | LimitedSession, kept: KeptObjects, parent: ObjectName | None) -> None:
        self._session = session
        self._kept = kept
        self._named = set[ObjectName]() if parent is None else {parent}

    @property
    def sent_bytes(self) -> int:
        """As of NodeSession."""
        return self._session.sent_bytes

    @property
    def lost(self) -> frozenset[ObjectName]:
        """As of NodeSession."""
        return self._session.lost

    @property
    def has_more_lost(self) -> bool:
        """As of NodeSession."""
        return self._session.has_more_lost

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        if name.kind not in KINDS or offset or length is not None:
            return self._session.get(name, offset, length)
        body = self._kept.get(name) if name in self._named else None
        if body is None:
            body = self._session.get(name)
            self._kept.keep(name, body)
        return body

    def list(self, kind: ObjectKind) -> Iterator[ObjectInfo]:
        if kind not in KINDS:
            yield from self._session.list(kind)
            return
        ids = set()
        for info in self._session.list(kind):
            self._named.add(info.name)
            ids.add(info.name.id)
            yield info
        self._kept.keep_only(kind, ids)

    def initialise(self, key: ObjectName, key_body: Buffer, config: Buffer, seal: Buffer) -> bool:
        return self._session.initialise(key, key_body, config, seal)

    def put(self, name: ObjectName, body: Buffer, packs: Sequence[ObjectName] = ()) -> bool:
        return self._session.put(name, body, packs)

    def reserve(self, packs: Sequence[ObjectName]) -> frozenset[ObjectName]:
        return self._session.reserve(packs)

    def commit(self, snapshot: ObjectName, body: Buffer) -> None:
        self._session.commit(snapshot, body)
        self._kept.keep(snapshot, bytes(body))

    def remove(self, name: ObjectName) -> None:
        self._session.remove(name)

    def mark(self) -> str:
        return self._session.mark()

    def condemn(self, names: Sequence[ObjectName]) -> Mapping[ObjectName, Refusal]:
        return self._session.condemn(names)

    def replace_seal(self, body: Buffer, replaced: Buffer | None) -> None:
        self._session.replace_seal(body, replaced)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
