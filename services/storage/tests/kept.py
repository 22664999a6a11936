"""Where a node of a test keeps bodies, on a disk or on an S3 server: what it is told, and a look at what lies there."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from clouds.calls import Patience
from services.storage import marker
from services.storage.disk import Disk
from services.storage.remote.address import StoreAddress, StoreKey
from services.storage.remote.spool import Spool
from services.storage.remote.store import Store
from services.storage.remote.volume import RemoteVolume
from services.storage.volume import Volume

HASTY = Patience(answer=30, total=0.5, new=0.3, first=0.001, longest=0.01)
KEY = StoreKey("AKIDEXAMPLE", "zqx-secret-of-a-store-7421")
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
class OnS3:
    """`bucket` is ENDPOINT/BUCKET; `store` looks at the prefix."""

    bucket: str
    prefix: str
    folder: Path
    store: Store

    def settings(self) -> dict[str, Any]:
        key = self.folder / "store-key"
        key.touch(0o600)
        key.write_text(f"[default]\naws_access_key_id = {KEY.access_key}\naws_secret_access_key = {KEY.secret}\n")
        return {
            "data_dirs": [],
            "data_stores": [address_of(self.bucket, self.prefix)],
            "store_key_file": key,
            "spool_dir": self.folder / f"spool of {self.prefix}",
        }

    def volume(self) -> Volume:
        store = Store(StoreAddress.parse(address_of(self.bucket, self.prefix)), KEY, "a", HASTY)
        return _Alone(store, Spool(self.folder / "spool", "a", 0), "a")

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
def on_s3(bucket: str, prefix: str, folder: Path) -> Iterator[OnS3]:
    store = Store(StoreAddress.parse(address_of(bucket, prefix)), KEY, "test", HASTY)
    try:
        yield OnS3(bucket, prefix, folder, store)
    finally:
        store.close()
