"""A vault: a restic repository of version 2 (version 1 is read, and stays version 1), opened in a session.

Kept true: the first key and `config` come into being in one atomic step of the store, so two devices never leave
mismatching keys; data is read only after its tag and its name were found right.
"""

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from client.errors import (
    DamagedVault,
    NoSuchSnapshot,
    ObjectMissing,
    StoreError,
    WrongRepositoryPassword,
)
from client.stores.abc import StoreSession
from client.vault.blobs import ID_BYTES, BlobId, BlobKind, Buffer
from client.vault.documents import Document
from client.vault.doubts import Doubts
from client.vault.index import Index, Location
from client.vault.index_files import IndexFile, decode_index_file
from client.vault.keys import DataKeys, create_key_file, open_key_file
from client.vault.nodes import Node, decode_tree
from client.vault.polynomial import is_irreducible, random_polynomial
from client.vault.sealing import COMPRESSED_VERSION, compress, decompress, open_blob
from client.vault.snapshots import Snapshot, decode_snapshot, newest_first, select_snapshot
from client.vault.whole_packs import WholePacks
from domain.names import CONFIG, ObjectKind, ObjectName

VERSIONS = (1, 2)
_ZSTD_ENCODING = 2
_JSON_ENCODINGS = frozenset(b"[{")
_MAX_DOCUMENT = (
    256 << 20
)  # plain bytes of an unpacked file; restic's index files have 8 MiB, a longer list of paths more


@dataclass(frozen=True, slots=True)
class Config:
    """What `config` says: the format's version, the vault's id (64 hex digits), restic's chunker polynomial."""

    version: int
    id: str
    chunker_polynomial: int


def encode_config(config: Config) -> bytes:
    document = {
        "version": config.version,
        "id": config.id,
        "chunker_polynomial": f"{config.chunker_polynomial:x}",
    }
    return json.dumps(document, separators=(",", ":")).encode()


def decode_config(body: Buffer) -> Config:
    """Raises DamagedVault for what cannot be read, and for a version that this program does not know."""
    document = Document.parse(body, "config")
    version = document.whole("version")
    if version not in VERSIONS:
        document.refuse(f"repository version {version} is not one of those known here, {VERSIONS}")
    try:
        polynomial = int(document.text("chunker_polynomial"), 16)
    except ValueError:
        document.refuse("chunker_polynomial is no hexadecimal number")
    return Config(version, document.id("id").hex(), polynomial)


class Vault:
    """An opened vault in one session. Its index is read when it is first needed. Safe for several threads."""

    def __init__(self, session: StoreSession, keys: DataKeys, config: Config, cache: Path | None) -> None:
        self.session = session
        self.keys = keys
        self.config = config
        self.cache_folder = cache  # of the device, for all its vaults
        self.doubts = Doubts(cache / f"{config.id}.doubts" if cache else None)
        self._index: Index | None = None
        self._index_lock = threading.Lock()
        self._whole_packs = WholePacks(session)

    def in_session(self, session: StoreSession) -> "Vault":
        """The same vault in another session: keys are kept, the index is asked anew."""
        return Vault(session, self.keys, self.config, self.cache_folder)

    @property
    def index(self) -> Index:
        """The index, as this session sees it."""
        return self.load_index()

    def load_index(self, progress: Callable[[int, int], None] | None = None) -> Index:
        """As `index`; `progress` is told index files read and to read."""
        with self._index_lock:
            if self._index is None:
                folder = self.cache_folder / self.config.id if self.cache_folder else None
                self._index = Index(self, folder, progress=progress)
            return self._index

    def close(self) -> None:
        """Let go of the index cache. The session is the caller's."""
        with self._index_lock:
            if self._index is not None:
                self._index.close()
                self._index = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Blobs

    def load_blob(self, kind: BlobKind, blob: BlobId) -> bytes:
        """The plaintext of a blob, from whichever pack still has it whole. Raises DamagedVault, StoreError."""
        failure: Exception = DamagedVault(name=f"{kind} blob {blob.hex()}", detail="no index file lists it")
        for location in self.index.find_all(kind, blob):
            try:
                return self.load_at(location)
            except (DamagedVault, ObjectMissing) as error:
                failure = error
        raise failure

    def load_at(self, location: Location) -> bytes:
        """The plaintext of the blob at one place, from any copy of its pack. Raises DamagedVault, StoreError."""
        entry = location.entry
        try:
            sealed = self.session.get(location.pack, entry.offset, entry.length)
        except DamagedVault as error:
            return self._open_whole(location, error)
        except ObjectMissing:
            self.doubts.add(location.pack)
            raise
        return self.open_at(location, sealed)

    def open_at(self, location: Location, sealed: Buffer) -> bytes:
        """The plaintext of a blob whose range of its pack was read as `sealed`.

        A range is read without a name to verify it against: where it does not open, the pack is fetched whole, which
        another node sends if the copy of the first was altered. Raises DamagedVault if no copy is whole, StoreError.
        """
        try:
            return open_blob(self.keys, location.entry, sealed)
        except DamagedVault as error:
            return self._open_whole(location, error)

    def _open_whole(self, location: Location, failure: DamagedVault) -> bytes:
        entry = location.entry
        try:
            body = self._whole_packs.get(location.pack)
            return open_blob(self.keys, entry, memoryview(body)[entry.offset : entry.offset + entry.length])
        except DamagedVault:
            self.doubts.add(location.pack)
            raise failure from None  # it names the blob and not only its pack

    def load_tree(self, tree: BlobId) -> list[Node]:
        """The nodes of a directory. Raises DamagedVault, StoreError."""
        return decode_tree(self.load_blob(BlobKind.TREE, tree), f"tree {tree.hex()}")

    # Snapshots

    def snapshots(self, damaged: Callable[[ObjectName, DamagedVault], None] | None = None) -> list[Snapshot]:
        """All snapshots that the session sees, oldest first.

        One that cannot be read raises DamagedVault, or is told to `damaged` and left out.
        """
        while True:
            session = self.session_number
            found, failed = self._read_snapshots()
            if session == self.session_number:
                break  # else some were listed in a session that is over: they may be gone by now
        for name, error in failed:
            if damaged is None:
                raise error
            damaged(name, error if isinstance(error, DamagedVault) else _as_damage(name, error))
        return newest_first(found)[::-1]

    def _read_snapshots(self) -> tuple[list[Snapshot], list[tuple[ObjectName, DamagedVault | ObjectMissing]]]:
        """Those that can be read, and why the others cannot."""
        found: list[Snapshot] = []
        failed: list[tuple[ObjectName, DamagedVault | ObjectMissing]] = []
        for info in self.session.list(ObjectKind.SNAPSHOT):
            try:
                found.append(self.load_snapshot(info.name))
            except (DamagedVault, ObjectMissing) as error:
                failed.append((info.name, error))
        return found, failed

    def load_snapshot(self, name: ObjectName) -> Snapshot:
        """Raises DamagedVault, StoreError."""
        return decode_snapshot(self.load_unpacked(name), name.id)

    def find_snapshot(
        self,
        wanted: str,
        damaged: Callable[[ObjectName, DamagedVault], None] = lambda *_: None,
        *,
        device: str | None = None,
    ) -> Snapshot:
        """As `find_snapshots`, of one."""
        return self.find_snapshots([wanted], damaged, device=device)[0]

    def find_snapshots(
        self,
        wanted: Sequence[str],
        damaged: Callable[[ObjectName, DamagedVault], None] = lambda *_: None,
        *,
        device: str | None = None,
    ) -> list[Snapshot]:
        """The snapshots that `wanted` name: `latest`, an id or a prefix of one; `damaged` is told of the unreadable.

        `latest` is the newest that `device` has among its own, or of all. Raises NoSuchSnapshot; DamagedVault if it is
        one of the unreadable that is wanted.
        """
        failed: dict[ObjectName, DamagedVault] = {}
        found = self.snapshots(failed.__setitem__)
        for name, error in failed.items():  # also if nothing is chosen: what is wanted may be one of them
            damaged(name, error)
        return [_select(found, name, device, failed) for name in wanted]

    # Index files (what Index asks for)

    @property
    def session_number(self) -> int:
        """Changes when a session that resumes has opened another (client/stores/resuming.py)."""
        number = getattr(self.session, "number", 0)
        return number if isinstance(number, int) else 0

    def list_index_files(self) -> list[ObjectName]:
        return [info.name for info in self.session.list(ObjectKind.INDEX)]

    def read_index_file(self, name: ObjectName) -> IndexFile:
        return decode_index_file(self.load_unpacked(name), str(name))

    # Unpacked files: config, index, snapshots, locks

    def load_unpacked(self, name: ObjectName) -> bytes:
        """The JSON document of an index file, a snapshot or a lock. Raises DamagedVault, StoreError."""
        body = self.session.get(name)
        if name.id and ObjectName.of(name.kind, body) != name:
            raise DamagedVault(name=name, detail="its bytes have another SHA-256 than its name")
        return open_unpacked(self.keys, body, str(name))

    def seal_unpacked(self, kind: ObjectKind, plaintext: bytes) -> tuple[ObjectName, bytes]:
        """Name and body of an index file, a snapshot or a lock; `session.commit` takes a snapshot so."""
        return seal_unpacked(self.keys, self.config.version, kind, plaintext)

    def save_unpacked(self, kind: ObjectKind, plaintext: bytes, packs: Sequence[ObjectName] = ()) -> ObjectName:
        """Store an index file, with the packs that it lists, or a lock. Raises StoreError."""
        name, body = self.seal_unpacked(kind, plaintext)
        self.session.put(name, body, packs)
        return name


def _select(
    found: Sequence[Snapshot], wanted: str, device: str | None, failed: Mapping[ObjectName, DamagedVault]
) -> Snapshot:
    try:
        return select_snapshot(found, wanted, device)
    except NoSuchSnapshot:
        for name, error in failed.items():
            if wanted and name.id.startswith(wanted.lower()):
                raise error from None
        raise


def seal_unpacked(keys: DataKeys, version: int, kind: ObjectKind, plaintext: bytes) -> tuple[ObjectName, bytes]:
    """Name and body of an unpacked file; opened again and compared, as blobs are. Raises DamagedVault."""
    encoded = plaintext
    if version >= COMPRESSED_VERSION:
        encoded = bytes((_ZSTD_ENCODING,)) + compress(plaintext)
    body = keys.seal(encoded)
    if open_unpacked(keys, body, f"a new {kind} file") != plaintext:
        raise DamagedVault(name=f"a new {kind} file", detail="it did not open to what was sealed")
    return ObjectName.of(kind, body), body


def open_unpacked(keys: DataKeys, body: Buffer, name: str) -> bytes:
    """The JSON document in an unpacked file. Raises DamagedVault."""
    plaintext = keys.open(body, name)
    if plaintext[:1] == bytes((_ZSTD_ENCODING,)):
        return decompress(memoryview(plaintext)[1:], _MAX_DOCUMENT, name)
    if plaintext and plaintext[0] in _JSON_ENCODINGS:
        return plaintext
    raise DamagedVault(name=name, detail=f"its encoding {plaintext[:1].hex() or 'is missing and'} is not known")


def create_vault(
    session: StoreSession,
    repository_password: str,
    seal: bytes = b"",
    *,
    cache: Path | None = None,
    version: int = COMPRESSED_VERSION,
) -> Vault | None:
    """Make the session's empty store a vault; None, with nothing stored, if it is one already.

    `seal` is E sealed under K, kept in the file `oort-vault`. Raises StoreError.
    """
    keys = DataKeys.random()
    config = Config(version, secrets.token_hex(ID_BYTES), random_polynomial(secrets.token_bytes))
    key_file = create_key_file(repository_password, keys)
    key = ObjectName.of(ObjectKind.KEY, key_file)
    if not session.initialise(key, key_file, keys.seal(encode_config(config)), seal):
        return None
    return Vault(session, keys, config, cache)


def open_vault(
    session: StoreSession, repository_password: str, cache: Path | None = None, *, place: str = "this place"
) -> Vault:
    """Open a vault with any of its key files.

    `cache` is the device's folder for all vaults' caches, `place` the store's, for messages.

    Raises WrongRepositoryPassword, DamagedVault, ObjectMissing if there is no vault, StoreError.
    """
    keys, config = _find_keys(session, repository_password, session.get(CONFIG), place)
    if not is_irreducible(config.chunker_polynomial):
        raise DamagedVault(name="config", detail="chunker_polynomial is not irreducible")
    return Vault(session, keys, config, cache)


def _find_keys(session: StoreSession, password: str, sealed_config: bytes, place: str) -> tuple[DataKeys, Config]:
    """Of the first key file that the password opens, and whose keys open the config.

    An initialisation that was broken off, or lost against another one, may have left a key file of other keys.
    """
    damage: DamagedVault | None = None
    found_any = False
    for name, body in _key_files(session):
        found_any = True
        try:
            if isinstance(body, DamagedVault):
                raise body
            keys = open_key_file(password, body, str(name))
            if keys is not None:
                return keys, decode_config(keys.open(sealed_config, "config"))
        except DamagedVault as error:
            damage = error
    if damage is not None:
        raise damage
    if not found_any:
        raise DamagedVault(name="keys", detail="there is no key file, and nothing else opens the vault")
    raise WrongRepositoryPassword(place=place)


def _key_files(session: StoreSession) -> Iterator[tuple[ObjectName, bytes | DamagedVault]]:
    for info in session.list(ObjectKind.KEY):
        try:
            body = session.get(info.name)
        except DamagedVault as error:
            yield info.name, error
            continue
        except ObjectMissing as error:
            yield info.name, _as_damage(info.name, error)
            continue
        if ObjectName.of(ObjectKind.KEY, body) != info.name:
            yield info.name, DamagedVault(name=info.name, detail="its bytes have another SHA-256 than its name")
            continue
        yield info.name, body


def reason_unread(error: DamagedVault | ObjectMissing) -> str:
    """Why something cannot be read, where its name is said already."""
    return str(error.fields.get("detail", error))


def _as_damage(name: ObjectName, error: StoreError | DamagedVault) -> DamagedVault:
    return DamagedVault(name=name, detail=str(error))
