import os
from pathlib import Path

import pytest

from client.vault import blob_parts
from client.vault.blob_figures import BlobFigures


@pytest.mark.parametrize("chunk", [2, 7, 2048])
def test_every_length_is_found_and_no_other(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_parts, "_CHUNK", chunk)
    ids = [os.urandom(32) for _ in range(3000)] + [bytes([byte]) * 32 for byte in (0, 255)]
    with BlobFigures(tmp_path) as lengths:
        for length, blob in enumerate(ids):
            lengths.add(blob, length)
        lengths.add(ids[5], 5)
        lengths.finish()
        assert [lengths.find(blob) for blob in ids] == list(range(len(ids)))
        assert not any(lengths.find(os.urandom(32)) for _ in range(300))
        assert lengths.find(b"\0" * 31 + b"\1") is not None  # only the first eight bytes are kept
    assert list(tmp_path.iterdir()) == []


def test_of_nothing_nothing_is_found() -> None:
    with BlobFigures(None) as lengths:
        lengths.finish()
        assert lengths.find(bytes(32)) is None


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        BlobFigures(tmp_path / "missing")
