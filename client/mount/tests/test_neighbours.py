"""Small files that are read one after another come together; what is read alone comes alone."""

import subprocess
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from client.mount.contents import Blobs, OpenFile
from client.mount.listing import Listing, Listings
from client.mount.neighbours import Neighbours
from client.mount.tests.a_mount import a_mount
from client.stores.abc import StoreSession
from client.testing.faults import SessionAround
from client.testing.files import random_bytes
from client.testing.vaults import PASSWORD, VaultForTests, a_vault
from client.vault.blobs import BlobId
from client.vault.repository import open_vault
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

FILES = 400
SIZE = 4 << 10


class Counting(SessionAround):
    """Keeps how long each part of a pack was that was asked for."""

    def __init__(self, session: StoreSession) -> None:
        super().__init__(session)
        self.lengths: list[int] = []
        self._counting = threading.Lock()

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        body = super().get(name, offset, length)
        if name.kind is ObjectKind.PACK:
            with self._counting:
                self.lengths.append(len(body))
        return body


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small files") / "source"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number:04}").write_bytes(random_bytes(SIZE, number))
    return folder


@pytest.fixture(scope="module")
def stored(source: Path) -> VaultForTests:
    vault = a_vault(source.parent / "vault")
    vault.backup(source)
    return vault


@dataclass
class Reader:
    """Reads files of one folder as the mount does; `lengths` are those of what was asked for."""

    listing: Listing
    tree: BlobId
    blobs: Blobs
    lengths: list[int]
    neighbours: Neighbours = field(default_factory=Neighbours)

    def read(self, place: int) -> bytes:
        beside = self.neighbours.opened(self.tree, self.listing, place)
        file = OpenFile(self.blobs, self.listing.content[place], self.listing.sizes[place], b"", beside)
        return b"".join(file.read(0, 128 << 10))


@contextmanager
def a_reader(stored: VaultForTests, path: Path) -> Iterator[Reader]:
    with stored.store.open(Purpose.READ) as plain:
        session = Counting(plain)
        with open_vault(session, PASSWORD) as vault:
            listings, tree = Listings(vault), vault.find_snapshot("latest").tree
            for name in path.parts[1:]:
                above = listings.load(tree)
                tree = above.content[above.names.index(name.encode())]
            reader = Reader(listings.load(tree), tree, Blobs(vault), session.lengths)
            session.lengths.clear()
            yield reader
            reader.blobs.close(wait=True)


def by_several() -> Sequence[int]:
    """The order in which threads come that share the files among them."""
    random = Random(1)
    return [place for start in range(0, FILES, 8) for place in random.sample(range(start, start + 8), 8)]


@pytest.mark.parametrize("order", [range(FILES), by_several()], ids=["one after another", "by several at once"])
def test_files_that_are_read_in_a_row_take_few_requests(
    source: Path, stored: VaultForTests, order: Sequence[int]
) -> None:
    with a_reader(stored, source) as reader:
        for place in order:
            assert reader.read(place) == random_bytes(SIZE, place)
    assert len(reader.lengths) <= FILES // 8


def test_files_that_are_read_the_other_way_come_one_by_one(source: Path, stored: VaultForTests) -> None:
    with a_reader(stored, source) as reader:
        for place in range(FILES)[::-1]:
            assert reader.read(place) == random_bytes(SIZE, place)
    assert sum(reader.lengths) < FILES * (SIZE + 100)


def test_a_file_that_is_read_alone_comes_alone(source: Path, stored: VaultForTests) -> None:
    with a_reader(stored, source) as reader:
        for place in (0, 300, 150):  # not beside one another
            assert reader.read(place) == random_bytes(SIZE, place)
    assert [length // SIZE for length in reader.lengths] == [1, 1, 1]


def test_the_first_file_of_a_folder_goes_on_with_a_row_that_another_folder_ended(tmp_path: Path) -> None:
    for folder in range(20):
        (tmp_path / "source" / f"{folder:02}" / "below").mkdir(parents=True)
        for number in range(5):
            (tmp_path / "source" / f"{folder:02}" / f"{number}").write_bytes(random_bytes(SIZE, 10 * folder + number))
    vault = a_vault(tmp_path / "vault")
    vault.backup(tmp_path / "source")
    with a_reader(vault, tmp_path / "source") as top:
        listings = Listings(top.blobs._vault)
        top.lengths.clear()
        for folder, tree in enumerate(top.listing.content):
            reader = Reader(listings.load(tree), tree, top.blobs, top.lengths, top.neighbours)
            before = len(top.lengths)
            for place in range(5):
                assert reader.read(place) == random_bytes(SIZE, 10 * folder + place)
            if folder:
                assert len(top.lengths) - before <= 2  # one of each pack in which they lie


def test_what_comes_along_is_bounded_and_larger_files_do_not(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number in range(40):
        size = (3 << 20) if number == 20 else 400 << 10
        (tmp_path / "source" / f"{number:02}").write_bytes(random_bytes(size, number))
    vault = a_vault(tmp_path / "vault")
    vault.backup(tmp_path / "source")
    with a_reader(vault, tmp_path / "source") as reader:
        for place in range(18):
            reader.read(place)
        held = reader.blobs.held
        assert held <= 18 * (400 << 10) + (4 << 20)
    assert max(reader.lengths) <= 4 << 20


def test_what_comes_along_is_bounded_by_what_blobs_have_and_not_by_what_trees_say(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number in range(40):
        (tmp_path / "source" / f"{number:02}").write_bytes(random_bytes(400 << 10, number))
    vault = a_vault(tmp_path / "vault")
    vault.backup(tmp_path / "source")
    with a_reader(vault, tmp_path / "source") as reader:
        blobs = list(reader.listing.content)
        reader.blobs.get(blobs[0], lambda: blobs)
        assert 400 << 10 < reader.blobs.held <= (400 << 10) + (4 << 20)


@pytest.mark.needs("fusermount3")
@pytest.mark.parametrize("command", ["cp -a {source} {target}", "tar -cf {target} -C {source} ."])
def test_a_folder_of_small_files_is_copied_by_few_requests(
    source: Path, stored: VaultForTests, tmp_path: Path, command: str
) -> None:
    target = tmp_path / "target"
    sessions: list[Counting] = []

    def counted(session: StoreSession) -> StoreSession:
        sessions.append(Counting(session))
        return sessions[0]

    with a_mount(stored.store, tmp_path / "mount", around=counted) as mounted:
        words = [word.format(source=mounted.snapshot(source), target=target) for word in command.split()]
        subprocess.run(words, check=True, capture_output=True)
        assert mounted.failures == []
    assert contents_of(target) == contents_of(source)
    assert len(sessions[0].lengths) <= FILES // 10


def contents_of(copied: Path) -> dict[str, bytes]:
    """The files of a folder, or of an archive of one, by name."""
    if copied.is_dir():
        return {path.name: path.read_bytes() for path in copied.iterdir()}
    with tarfile.open(copied) as archive:
        files = [(member.name, archive.extractfile(member)) for member in archive if member.isfile()]
        return {Path(name).name: file.read() for name, file in files if file is not None}
