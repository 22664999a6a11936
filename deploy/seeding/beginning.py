"""The small files by which a vault begins: its `config`, its keys, the seal of its key.

Kept true: a bucket takes one vault alone: the first key and `config` come first, in one step, and a bucket with another
config is refused; no key comes in that nobody could read, and no seal of another account.
"""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from client.account.vaults import SealFile
from client.errors import BrokenSeal, DamagedVault, ObjectMissing, OortError
from client.stores.abc import ObjectInfo
from client.vault.blobs import SEAL_OVERHEAD
from client.vault.keys import read_key_file
from deploy.seeding.errors import AnotherVault, NotARepository, Unreadable
from deploy.seeding.export import Moved
from deploy.seeding.session import BucketSession
from domain.names import CONFIG, SEAL, ObjectName

_LARGEST_CONFIG = 1 << 20
_LARGEST_KEY = _LARGEST_SEAL = 64 << 10


class SmallFiles(Protocol):
    """Where they are read from."""

    @property
    def place(self) -> Path | str:
        """As a person is told of it."""

    def key_names(self) -> Iterable[ObjectName]: ...

    def read(self, name: ObjectName, most: int) -> bytes:
        """All of a file of at most `most` bytes. Raises ObjectMissing, Unreadable; StoreError when the disk fails."""


class Beginning:
    """`moved` hears of what is left out."""

    def __init__(self, session: BucketSession, files: SmallFiles, moved: Moved) -> None:
        self._session = session
        self._files = files
        self._moved = moved

    def config(self) -> bytes:
        """Raises NotARepository."""
        place = self._files.place
        try:
            config = self._files.read(CONFIG, _LARGEST_CONFIG)
        except ObjectMissing:
            raise NotARepository(folder=place, detail="it has no file config") from None
        except Unreadable as error:
            raise NotARepository(folder=place, detail=f"its config cannot be taken: {error}") from None
        if len(config) <= SEAL_OVERHEAD:
            raise NotARepository(folder=place, detail="its config is cut short")
        return config

    def keys(self) -> dict[ObjectName, bytes]:
        """Those that can be read."""
        found: dict[ObjectName, bytes] = {}
        for name in self._files.key_names():
            try:
                body = self._files.read(name, _LARGEST_KEY)
                if sha256(body).hexdigest() != name.id:
                    raise DamagedVault(name=name, detail="its bytes have another SHA-256 than its name")
                read_key_file(body, str(name))
            except OortError as error:
                self._moved.damaged[str(name)] = str(error)
            else:
                found[name] = body
        return found

    def seal(self) -> bytes:
        """Empty where none is of the bucket's account: a device makes one where there is none, and replaces none."""
        try:
            body = self._files.read(SEAL, _LARGEST_SEAL)
            seal = SealFile.from_bytes(body)
        except ObjectMissing:
            return b""
        except Unreadable as error:
            self._moved.damaged[str(SEAL)] = str(error)
            return b""
        except BrokenSeal:
            self._moved.damaged[str(SEAL)] = "it is no seal of a vault's key"
            return b""
        if str(seal.user) != self._session.user:
            self._moved.damaged[str(SEAL)] = "it is of another account: a device's first backup makes the one needed"
            return b""
        return body

    def begin(self, config: bytes, keys: dict[ObjectName, bytes], seal: bytes) -> dict[ObjectName, bytes]:
        """Make the bucket this vault, if it is none yet. Answers the keys that are still to be stored.

        Raises NotARepository where nothing could open it, AnotherVault.
        """
        if self.has_no_config():
            if not keys:
                raise NotARepository(folder=self._files.place, detail="it has no key file that can be read")
            first = next(iter(keys))
            if self._session.initialise(first, keys[first], config, seal):
                self._moved.count(ObjectInfo(first, len(keys[first])), moved=True)
                keys = {name: body for name, body in keys.items() if name != first}
        if self._session.read(CONFIG) != config:
            raise AnotherVault(bucket=self._session.bucket, folder=self._files.place)
        return keys

    def has_no_config(self) -> bool:
        """Or one that is lost, which the same may take the place of."""
        try:
            self._session.read(CONFIG)
        except (ObjectMissing, DamagedVault):
            return True
        return False
