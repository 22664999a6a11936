from functools import cache

import pytest

from client.proof import sampling
from client.proof.sampling import FileSample, sample_of
from client.vault.blobs import BlobKind
from client.vault.repository import Vault
from client.vault.snapshots import Snapshot
from client.vault.tests.builders import a_node, a_writer

FILES = 60


@cache
def of_sixty_files() -> tuple[Vault, Snapshot]:
    """Some folders, some links, and files of which none has content."""
    writer = a_writer()
    names = [b"f%02d" % number for number in range(FILES // 3)]
    folders = [writer.folder(b"d%d" % number, *map(a_node, names)) for number in range(2)]
    writer.snapshot(writer.tree(*folders, *map(a_node, names)))
    vault = writer.finish()
    return vault, vault.snapshots()[0]


def drawn(sample: FileSample) -> list[bytes]:
    lost: list[bytes] = []
    found = sample.draw(*of_sixty_files(), lambda path, _: lost.append(path))
    assert lost == []
    return [listed.path for listed in found]


def test_so_many_files_are_drawn_and_the_same_ones_by_the_same_seed() -> None:
    assert len(set(drawn(FileSample("a", count=10)))) == 10
    assert drawn(FileSample("a", count=10)) == drawn(FileSample("a", count=10)) != drawn(FileSample("b", count=10))
    assert len(drawn(FileSample("a", count=1000))) == FILES


def test_of_many_files_none_is_held_and_the_same_ones_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    held = drawn(FileSample("a", count=10))
    monkeypatch.setattr(sampling, "_FEW", 5)
    assert sorted(drawn(FileSample("a", count=10))) == held
    assert len(drawn(FileSample("a", count=1000))) == FILES


def test_of_a_share_about_that_part_is_drawn_and_at_least_one_file() -> None:
    assert len(drawn(FileSample("a", share=1))) == FILES
    assert len(drawn(FileSample("a", share=1e-9))) == 1
    counts = [len(drawn(FileSample(str(seed), share=0.5))) for seed in range(20)]
    assert 0.4 * FILES < sum(counts) / 20 < 0.6 * FILES


def test_every_file_is_drawn_by_some_seed() -> None:
    assert {path for seed in range(40) for path in drawn(FileSample(str(seed), count=15))} == set(
        drawn(FileSample("", share=1))
    )


def test_a_folder_whose_list_is_lost_is_named_and_the_rest_drawn() -> None:
    writer = a_writer()
    writer.snapshot(writer.tree(a_node(b"file"), writer.folder(b"lost", a_node(b"x"))))
    vault = writer.finish()
    snapshot = vault.snapshots()[0]
    (folder,) = [node for node in vault.load_tree(snapshot.tree) if node.subtree]
    assert folder.subtree
    (pack,) = vault.index.packs_of(BlobKind.TREE, folder.subtree)
    del writer.store.objects[pack]  # type: ignore[attr-defined]
    lost: list[bytes] = []
    found = FileSample("a", share=1).draw(vault, snapshot, lambda path, _: lost.append(path))
    assert [listed.path for listed in found] == [b"/file"]
    assert lost == [b"/lost"]


def test_it_is_asked_for_in_words() -> None:
    assert sample_of("100", "s") == FileSample("s", count=100)
    assert sample_of("2.5%", "s") == FileSample("s", share=0.025)


@pytest.mark.parametrize("text", ["0", "-1", "0%", "101%", "some", "", "5 %"])
def test_what_is_no_sample_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="share"):
        sample_of(text, "s")
