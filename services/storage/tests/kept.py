"""Where a node of a test keeps bodies, on a disk or in a store: what it is told, and a look at what lies there."""

import base64
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from clouds.calls import Patience
from clouds.testing.emulators import Emulator
from services.storage.volumes import marker
from services.storage.volumes.disk import Disk
from services.storage.volumes.remote.address import StoreAddress
from services.storage.volumes.remote.keys import StoreKey
from services.storage.volumes.remote.spool import Spool
from services.storage.volumes.remote.store import Store
from services.storage.volumes.remote.volume import RemoteVolume
from services.storage.volumes.volume import Volume

HASTY = Patience(answer=30, total=0.5, new=0.3, first=0.001, longest=0.01)
_ACCESS_KEY, _SECRET = "AKIDEXAMPLE", "zqx-secret-of-a-store-7421"
KEY = StoreKey({"access_key_id": _ACCESS_KEY, "secret_access_key": _SECRET})
_KEY_OF_S3 = f"[default]\naws_access_key_id = {_ACCESS_KEY}\naws_secret_access_key = {_SECRET}\n"
_OWN_FILES = frozenset(("lock", marker.NAME))


class Kept(Protocol):
    """Bodies of one node, by their paths below its folder or prefix."""

    def settings(self) -> dict[str, Any]:
        """What the node is told."""

    def volume(self) -> Volume:
        """What the node makes of that. Close it."""

    def files(self) -> list[str]:
        """All but what says whose they are."""

    def cleared(self) -> str:
        """The one order to clear a bucket that is over."""

    def read(self, path: str) -> bytes: ...
    def write(self, path: str, body: bytes) -> None: ...


@dataclass
class OnDisk:
    folder: Path

    def settings(self) -> dict[str, Any]:
        return {"data_dirs": [self.folder]}

    def volume(self) -> Volume:
        return Disk(self.folder, "a", 0)

    def files(self) -> list[str]:
        found = (path for path in self.folder.rglob("*") if path.is_file() and path.name not in _OWN_FILES)
        return sorted(str(path.relative_to(self.folder)) for path in found)

    def cleared(self) -> str:
        (order,) = self.read("cleared").decode().split()
        return order

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def write(self, path: str, body: bytes) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(body)


@dataclass
class InStore:
    """At the address `url`; `store` looks at the prefix. In `folder` lie the key file and the spool."""

    url: str
    key_file: Path
    folder: Path
    store: Store
    patience: Patience

    def settings(self) -> dict[str, Any]:
        return {
            "data_dirs": [],
            "data_stores": [self.url],
            "store_key_file": self.key_file,
            "spool_dir": self.folder / f"spool of {StoreAddress.parse(self.url).prefix}",
        }

    def volume(self) -> RemoteVolume:
        store = self._opened(StoreAddress.parse(self.url))
        return _Alone(store, Spool(self.folder / "spool", "a", 0), "a")

    @contextmanager
    def elsewhere(self) -> Iterator[Store]:
        """The same store with the name of a container that it has not."""
        address = replace(StoreAddress.parse(self.url), container="no-such-container")
        with closing(self._opened(address)) as store:
            yield store

    def _opened(self, address: StoreAddress) -> Store:
        return Store(address, StoreKey.read(self.key_file, address.scheme), "a", self.patience)

    def files(self) -> list[str]:
        return sorted(path for path in self._below("/") if path not in _OWN_FILES)

    def _below(self, folder: str) -> Iterator[str]:
        for entry in self.store.list(folder):
            if entry.is_folder:
                yield from self._below(entry.path)
            else:
                yield entry.path

    def cleared(self) -> str:
        (entry,) = self.store.list("cleared/")
        return entry.name

    def read(self, path: str) -> bytes:
        found = self.store.read(path)
        assert found is not None
        return found

    def write(self, path: str, body: bytes) -> None:
        self.store.delete(path)
        assert self.store.create(path, body)


class _Alone(RemoteVolume):
    """With a spool of its own."""

    def __init__(self, store: Store, spool: Spool, node: str) -> None:
        with ExitStack() as stack:
            stack.callback(spool.close)
            stack.callback(store.close)
            super().__init__(store, spool, node, 1 << 40, cluster="local")
            self._opened = stack.pop_all()

    def close(self) -> None:
        self._opened.close()


def address_of(bucket: str, prefix: str) -> str:
    endpoint, _, name = bucket.rpartition("/")
    return f"s3://{name}/{quote(prefix)}?endpoint={endpoint}&region=us-east-1"


@contextmanager
def on_s3(bucket: str, prefix: str, folder: Path) -> Iterator[InStore]:
    """`bucket` is ENDPOINT/BUCKET."""
    with _in_store(address_of(bucket, prefix), _KEY_OF_S3, folder, HASTY) as kept:
        yield kept


@contextmanager
def on_emulator(emulator: Emulator, prefix: str, folder: Path) -> Iterator[InStore]:
    url = emulator.address(quote(prefix))
    key = {
        "s3": f"[default]\naws_access_key_id = {emulator.key}\naws_secret_access_key = {emulator.secret}\n",
        "azblob": f"[azblob]\naccount_name = {emulator.key}\naccount_key = {emulator.secret}\n",
        "gcs": "[gcs]\ncredential_file = google.json\n",
    }[emulator.scheme]
    if emulator.scheme == "gcs":
        _write_secret(folder / "google.json", base64.b64decode(emulator.secret).decode())
    # Emulators are programs of their own, which a busy machine lets wait.
    with _in_store(url, key, folder, replace(HASTY, total=60, new=60)) as kept:
        yield kept


@contextmanager
def _in_store(url: str, key: str, folder: Path, patience: Patience) -> Iterator[InStore]:
    key_file = folder / "store-key"
    _write_secret(key_file, key)
    address = StoreAddress.parse(url)
    with closing(Store(address, StoreKey.read(key_file, address.scheme), "test", patience)) as store:
        yield InStore(url, key_file, folder, store, patience)


def _write_secret(path: Path, content: str) -> None:
    path.touch(0o600)
    path.write_text(content)
