"""The least that a first backup to S3 can take here: bare calls of the libraries that do it, beside restic's backup.

Kept true: the same data, the same server and its processor seconds in both; the bare calls are in one thread, with
nothing of a backup around them: no scan, no index, no trees, no snapshot, no locks, no processes. So no backup that
does these steps by these calls takes less of the processors than they do. Who comes first changes from round to round.
"""

import io
import json
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import opendal
from rich.console import Console
from rich.table import Table

from bench.comparison import Say, ensure_room, read, work_folder
from bench.datasets.content import MIB
from bench.datasets.dataset import Dataset, Tree
from bench.measure import NotMeasured, Run, processor_seconds
from bench.stores import ResticOnS3, can_serve_s3
from bench.terminal import run_text
from client.cli.console import plural
from client.platforms.linux import processors
from client.vault.blobs import BlobId, BlobKind, Buffer, blob_id
from client.vault.chunker import MIN_CHUNK, Chunker
from client.vault.keys import DataKeys
from client.vault.packs import PACK_TARGET
from client.vault.sealing import decompress, seal_batch
from clouds.testing import emulators
from clouds.testing.emulators import Emulator
from deploy.local.ports import free_port

READ, CUT, HASH, SEAL, OPEN = "read", "cut into chunks", "SHA-256 of chunks", "compress and seal", "open again, compare"
PACK, PUT, SIZE = "fill packs, SHA-256", "put packs", "ask for their sizes"
_STEPS = (READ, CUT, HASH, SEAL, OPEN, PACK, PUT, SIZE)
_CHECKS = (OPEN, SIZE)  # what restic 0.14 does not do
_BATCH = 8 << 20  # bytes that go through one step at once
_ROOM = 4  # times the data
_Part = tuple[Path, int, int]  # of a file: where it begins, and its length


@dataclass(slots=True)
class Floor:
    """Processor seconds of client and server by step, and restic's whole backup."""

    dataset: str
    tree: Tree
    restic: Run
    steps: dict[str, tuple[float, float]]

    def cpu(self, *without: str) -> float:
        """Processor seconds of all steps but some, of both ends."""
        return sum(sum(both) for step, both in self.steps.items() if step not in without)

    def ratio(self, *without: str) -> float:
        """Those, by restic's processor seconds."""
        return self.cpu(*without) / self.restic.cpu

    def ratio_of_time(self, processors: int) -> float:
        """What all steps take on so many processors that are never idle, by restic's seconds."""
        return self.cpu() / processors / self.restic.seconds

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"kind": "floor"} | asdict(self), indent=1) + "\n")

    def print(self) -> None:
        tree = f"{plural(self.tree.files, 'file')}, {self.tree.size / MIB:,.0f} MiB"
        table = Table(title=f"{self.dataset}: {tree}; processor seconds of a first backup to S3 by bare calls")
        for heading in ("", "client", "server"):
            table.add_column(heading, justify="right" if heading else "left")
        for step, both in self.steps.items():
            table.add_row(step, *(f"{seconds:.2f}" for seconds in both))
        Console(width=120, highlight=False).print(table)
        print(f"restic's backup: {run_text(self.restic)}")
        print(f"all steps by restic's processor seconds: {self.ratio():.2f}")
        print(f"the same without {' and '.join(_CHECKS)}: {self.ratio(*_CHECKS):.2f}")
        count = processors()
        least = self.ratio_of_time(count)
        print(f"all steps on {plural(count, 'processor')} never idle by restic's seconds: {least:.2f}")


def measure_floor(dataset: Dataset, *, scale: float, rounds: int, place: Path | None, say: Say) -> Floor:
    """Measure, and answer the round whose ratio is in the middle. Raises NotMeasured, also without a server of S3."""
    if not can_serve_s3():
        raise NotMeasured("the server of S3 is not installed: make emulators")
    floors = []
    for number in range(rounds):
        with work_folder(place) as folder:
            source = dataset.place(folder, scale)
            tree = read(source)
            ensure_room(folder, _ROOM * tree.size)
            files = plural(tree.files, "file")
            say(f"{dataset.name}: {files}, {tree.size / 1e6:,.0f} MB; round {number + 1} of {rounds}")
            floors.append(_round(dataset, folder, source, tree, bare_first=number % 2 == 1))
    return sorted(floors, key=Floor.ratio)[len(floors) // 2]


def _round(dataset: Dataset, folder: Path, source: Path, tree: Tree, *, bare_first: bool) -> Floor:
    (folder / "s3").mkdir()
    steps = dict.fromkeys(_STEPS, (0.0, 0.0))
    with ExitStack() as stack:
        try:
            server = stack.enter_context(emulators.s3(folder / "s3", free_port))
        except OSError as error:
            raise NotMeasured(f"the server of S3 does not start: {error}") from None
        if bare_first:
            _BareBackup(server, steps).back_up(source)
        restic = ResticOnS3(folder / "restic", server)
        restic.prepare()
        read(source)
        run = restic.backup(source)
        if not bare_first:
            read(source)
            _BareBackup(server, steps).back_up(source)
    return Floor(dataset.name, tree, run, steps)


class _BareBackup:
    """Each step by the calls that do it."""

    def __init__(self, server: Emulator, steps: dict[str, tuple[float, float]]) -> None:
        """Adds to `steps`."""
        self._pid = server.pid
        self._steps = steps
        self._keys = DataKeys.random()
        self._chunker = Chunker(0)
        self._known: set[BlobId] = set()
        self._pack = io.BytesIO()
        self._bucket = opendal.Operator(
            "s3",
            endpoint=server.endpoint,
            bucket=server.container,
            root="/bare",
            region="us-east-1",
            access_key_id=server.key,
            secret_access_key=server.secret,
            disable_config_load="true",
            disable_ec2_metadata="true",
        )

    def back_up(self, source: Path) -> None:
        for batch in _batches(source):
            with self._step(READ):
                contents = [_content(*part) for part in batch]
            self._store(contents)
        self._send()

    def _store(self, contents: list[bytes]) -> None:
        chunks: list[Buffer] = []
        with self._step(CUT):
            for content in contents:
                chunks += self._chunker.cut(content) if len(content) > MIN_CHUNK else [content]
        with self._step(HASH):
            ids = [blob_id(chunk) for chunk in chunks]
        new = {identity: chunk for identity, chunk in zip(ids, chunks, strict=True) if identity not in self._known}
        self._known.update(new)
        with self._step(SEAL):
            sealed = seal_batch(self._keys, BlobKind.DATA, list(new.values()), ids=list(new), verify=False)
        with self._step(OPEN):
            for blob, chunk in zip(sealed, new.values(), strict=True):
                opened = self._keys.open(blob.body)
                if blob.compressed:
                    opened = decompress(opened, len(chunk), "a blob")
                if not opened.startswith(chunk):
                    raise NotMeasured("what was sealed is not what was read")
        left = deque(sealed)
        while left:
            with self._step(PACK):
                while left and self._pack.tell() < PACK_TARGET:
                    self._pack.write(left.popleft().body)
            if self._pack.tell() >= PACK_TARGET:
                self._send()

    def _send(self) -> None:
        with self._step(PACK):
            body = self._pack.getvalue()
            name = sha256(body).hexdigest()
            self._pack = io.BytesIO()
        with self._step(PUT):
            self._bucket.write(name, body)
        with self._step(SIZE):
            if self._bucket.stat(name).content_length != len(body):
                raise NotMeasured("the server has not what it was given")

    @contextmanager
    def _step(self, step: str) -> Iterator[None]:
        asks_server = step in (PUT, SIZE)
        served = processor_seconds([self._pid]) if asks_server else 0.0
        began = time.process_time()
        yield
        client, server = self._steps[step]
        client += time.process_time() - began
        if asks_server:
            server += processor_seconds([self._pid]) - served
        self._steps[step] = client, server


def _batches(source: Path) -> Iterator[list[_Part]]:
    """Parts of files that are read at once; what is empty is none."""
    batch: list[_Part] = []
    size = 0
    for path in source.rglob("*"):
        length = path.stat().st_size if path.is_file() else 0
        for offset in range(0, length, _BATCH):
            part = path, offset, min(_BATCH, length - offset)
            batch.append(part)
            size += part[2]
            if size >= _BATCH:
                yield batch
                batch, size = [], 0
    yield batch


def _content(path: Path, offset: int, length: int) -> bytes:
    opened = os.open(path, os.O_RDONLY)
    try:
        return os.pread(opened, length, offset)
    finally:
        os.close(opened)
