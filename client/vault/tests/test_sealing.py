import os
import threading
import tracemalloc
from collections.abc import Sequence
from random import Random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from client.errors import DamagedVault, TruncatedObject
from client.vault import sealing
from client.vault.blobs import BlobKind, PackEntry, SealedBlob, blob_id
from client.vault.keys import DataKeys
from client.vault.packs import (
    MAX_BLOBS,
    PackBuilder,
    decode_header,
    encode_header,
    header_size,
    parse_pack,
    read_pack_header,
)
from client.vault.sealing import Compression, Plaintexts, compress, decompress, entry_of, open_blob, seal_batch
from client.vault.tests.builders import KEYS, a_writer
from client.vault.tests.test_documents import ENTRIES
from domain.names import ObjectKind, ObjectName

PACK = ObjectName(ObjectKind.PACK, "ab" * 32)


@given(st.lists(st.binary(min_size=1, max_size=2000) | st.binary(min_size=1, max_size=9).map(lambda b: b * 500)))
def test_what_was_sealed_as_a_batch_opens(plaintexts: list[bytes]) -> None:
    blobs = seal_batch(KEYS, BlobKind.DATA, plaintexts)
    assert [blob.id for blob in blobs] == [blob_id(plaintext) for plaintext in plaintexts]
    for blob, plaintext in zip(blobs, plaintexts, strict=True):
        assert open_blob(KEYS, entry_of(blob, 0), blob.body) == plaintext
        assert blob.length_plain == len(plaintext)
        assert blob.length_sealed == len(blob.body) <= len(plaintext) + 32


@pytest.mark.parametrize("size", [1, 1000, 300 << 10, 3 << 20])
def test_blobs_of_every_size_open_again(size: int) -> None:
    for plaintext in (os.urandom(size), bytes(size)):
        (blob,) = seal_batch(KEYS, BlobKind.TREE, [memoryview(plaintext)])
        assert blob.compressed == (size > 100 and not any(plaintext))
        assert open_blob(KEYS, entry_of(blob, 0), blob.body) == plaintext


def test_a_mixed_batch_is_compressed_blob_by_blob() -> None:
    blobs = seal_batch(KEYS, BlobKind.DATA, [bytes(1 << 20), os.urandom(5000), bytes(10)])
    assert [blob.compressed for blob in blobs] == [True, False, False]


@pytest.mark.parametrize("kind", BlobKind)
@pytest.mark.parametrize("compression", Compression)
def test_data_is_compressed_as_was_asked_for_and_trees_always(kind: BlobKind, compression: Compression) -> None:
    words = [b"word%d" % number for number in range(2000)]
    text = b" ".join(Random(1).choices(words, k=60_000))
    plaintexts = [text, text[:1000], os.urandom(400 << 10)]
    blobs = seal_batch(KEYS, kind, plaintexts, compression=compression)
    is_compressed = kind is BlobKind.TREE or compression is not Compression.OFF
    assert [blob.compressed for blob in blobs] == [is_compressed, is_compressed, False]
    for blob, plaintext in zip(blobs, plaintexts, strict=True):
        assert open_blob(KEYS, entry_of(blob, 0), blob.body) == plaintext
    if compression is Compression.MAX:
        (quick,) = seal_batch(KEYS, kind, [text])
        assert blobs[0].length_sealed < quick.length_sealed


@pytest.mark.parametrize("at", range(8))
def test_what_only_a_part_of_compresses_is_compressed(at: int) -> None:
    plaintext = bytearray(os.urandom(1 << 20))
    plaintext[at << 17 : at + 1 << 17] = bytes(1 << 17)
    (blob,) = seal_batch(KEYS, BlobKind.DATA, [plaintext])
    assert blob.compressed
    assert blob.length_sealed < 7.1 * (1 << 17)


def test_version_1_has_no_compression() -> None:
    (blob,) = seal_batch(KEYS, BlobKind.DATA, [bytes(1000)], version=1)
    assert (blob.compressed, blob.length_sealed, entry_of(blob, 0).uncompressed_length) == (False, 1032, 0)


@pytest.mark.parametrize("fault", ["compression", "memory"])
def test_a_blob_that_does_not_open_to_what_was_sealed_is_never_sent(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "compression":
        monkeypatch.setattr(sealing, "_compress", lambda *_: [zstandard.compress(b"y" * 1000)])
    else:
        genuine = DataKeys.seal_buffer

        def flipped(keys: DataKeys, plaintext: bytes) -> bytearray:
            sealed = genuine(keys, plaintext)
            sealed[20] ^= 1
            return sealed

        monkeypatch.setattr(DataKeys, "seal_buffer", flipped)
    with pytest.raises(DamagedVault):
        seal_batch(KEYS, BlobKind.DATA, [b"x" * 1000])


@pytest.mark.parametrize("size", [1000, 600_000])  # seen to open at once, and in steps
def test_plaintexts_are_compressed_once_for_several_vaults_and_open_with_the_keys_of_each(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [b"%d " % number * size for number in range(3)] + [os.urandom(size)]
    compressed: list[int] = []
    genuine = sealing._compress

    def counted(plaintexts: Sequence[bytes], compression: Compression) -> object:
        compressed.append(len(plaintexts))
        return genuine(plaintexts, compression)

    monkeypatch.setattr(sealing, "_compress", counted)
    ids = [blob_id(text) for text in texts]
    batch = Plaintexts(BlobKind.DATA, texts, ids, vaults=2)
    for keys, positions in ((KEYS, [0, 2, 3]), (DataKeys.random(), [0, 1, 2, 3])):
        for at, blob in zip(positions, batch.seal(keys, positions), strict=True):
            assert open_blob(keys, entry_of(blob, 0), blob.body) == texts[at]
    assert compressed == [3, 1]  # the second vault lacks one more


def test_what_was_sealed_for_the_second_vault_is_opened_again_too(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Plaintexts(BlobKind.DATA, [b"x" * 1000], [blob_id(b"x" * 1000)], vaults=2)
    batch.seal(KEYS, [0])
    genuine = DataKeys.seal_buffer

    def of_another(keys: DataKeys, plaintext: bytes) -> bytearray:
        return genuine(keys, plaintext[:-1] + b"?")

    monkeypatch.setattr(DataKeys, "seal_buffer", of_another)
    with pytest.raises(DamagedVault, match="did not open to what was sealed"):
        batch.seal(DataKeys.random(), [0])


def an_entry(sealed: bytes, identity: bytes, uncompressed: int = 0) -> PackEntry:
    return PackEntry(identity, BlobKind.DATA, 0, len(sealed), uncompressed)


@pytest.mark.parametrize("plain", [b"x" * 99, b"x" * 101])
def test_a_blob_of_another_length_than_announced_is_damaged(plain: bytes) -> None:
    sealed = KEYS.seal(zstandard.compress(plain))
    with pytest.raises(DamagedVault):
        open_blob(KEYS, an_entry(sealed, blob_id(plain), 100), sealed)


def test_a_blob_with_another_hash_is_damaged() -> None:
    sealed = KEYS.seal(b"content")
    with pytest.raises(DamagedVault, match="SHA-256"):
        open_blob(KEYS, an_entry(sealed, bytes(32)), sealed)


def test_a_blob_that_is_cut_short_is_damaged() -> None:
    sealed = KEYS.seal(b"content")
    with pytest.raises(DamagedVault, match="38 of 39"):
        open_blob(KEYS, an_entry(sealed, blob_id(b"content")), sealed[:-1])


def test_a_length_that_would_fill_the_memory_is_not_believed() -> None:
    sealed = KEYS.seal(zstandard.compress(b"x"))
    with pytest.raises(DamagedVault, match="not credible"):
        open_blob(KEYS, an_entry(sealed, bytes(32), 1 << 31), sealed)


@given(st.binary(max_size=100), st.integers(0, 1000))
def test_arbitrary_bytes_are_a_frame_or_damaged(frame: bytes, size: int) -> None:
    try:
        assert len(decompress(frame, size, "frame")) <= size
    except DamagedVault:
        return


def test_a_short_frame_cannot_ask_for_much_memory() -> None:
    """The header of the format: magic number, a descriptor for a content size of 4 bytes, the size, a last block."""
    frame = bytes.fromhex("28b52ffd a0") + (100 << 20).to_bytes(4, "little") + bytes.fromhex("01 00 00")
    assert zstandard.frame_content_size(frame) == 100 << 20
    tracemalloc.start()
    try:
        with pytest.raises(DamagedVault, match="cannot hold"):
            decompress(frame, sealing.MAX_TREE, "frame")
        assert decompress(bytes.fromhex("28b52ffd 00 58 01 00 00"), sealing.MAX_TREE, "of unknown size") == b""
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_as_much_as_can_come_out_of_a_frame_is_read() -> None:
    hole = bytes(64 << 20)
    for frame in (compress(hole), zstandard.ZstdCompressor(write_content_size=False, level=19).compress(hole)):
        assert decompress(frame, len(hole), "frame") == hole


def test_a_frame_without_its_content_size_is_read_too() -> None:
    """As writers make it that do not know the size beforehand."""
    plain = b"x" * 500
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(plain)
    assert decompress(frame, 500, "frame") == plain
    with pytest.raises(DamagedVault):
        decompress(frame, 499, "frame")


def test_threads_seal_and_open_at_once() -> None:
    failures: list[object] = []

    def work() -> None:
        for _ in range(30):
            plaintexts = [os.urandom(500) * 3, os.urandom(40_000)]
            for blob, plaintext in zip(seal_batch(KEYS, BlobKind.DATA, plaintexts), plaintexts, strict=True):
                if open_blob(KEYS, entry_of(blob, 0), blob.body) != plaintext:
                    failures.append(blob)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# Packs


def a_pack(*plaintexts: bytes, kind: BlobKind = BlobKind.DATA) -> tuple[ObjectName, bytes, list[PackEntry]]:
    builder = PackBuilder(KEYS, kind)
    for blob in seal_batch(KEYS, kind, plaintexts):
        builder.add(blob)
    pack, body = builder.finish()
    return pack.name, bytes(body), pack.entries


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5), st.sampled_from(BlobKind))
def test_a_pack_is_read_as_it_was_filled(plaintexts: list[bytes], kind: BlobKind) -> None:
    name, body, entries = a_pack(*plaintexts, kind=kind)
    assert name == ObjectName.of(ObjectKind.PACK, body)
    assert parse_pack(KEYS, name, body) == entries
    assert len(body) == sum(entry.length for entry in entries) + header_size(entries)
    for entry, plaintext in zip(entries, plaintexts, strict=True):
        assert open_blob(KEYS, entry, body[entry.offset : entry.offset + entry.length]) == plaintext


def test_the_header_has_the_layout_of_the_format() -> None:
    plain = PackEntry(b"\1" * 32, BlobKind.TREE, 0, 0x1234, 0)
    compressed = PackEntry(b"\2" * 32, BlobKind.DATA, 0x1234, 50, 0x10002)
    encoded = encode_header(KEYS, [plain, compressed])
    assert encoded[-4:] == (37 + 41 + 32).to_bytes(4, "little")
    assert KEYS.open(encoded[:-4]) == (
        b"\1\x34\x12\0\0" + b"\1" * 32 + b"\2" + (50).to_bytes(4, "little") + b"\2\0\1\0" + b"\2" * 32
    )


@given(st.lists(ENTRIES, max_size=5))
def test_a_header_is_read_as_it_was_written(entries: list[PackEntry]) -> None:
    read = decode_header(KEYS, encode_header(KEYS, entries)[:-4], "pack")
    assert [entry._replace(offset=0) for entry in read] == [entry._replace(offset=0) for entry in entries]


@given(st.binary(max_size=200))
def test_a_header_of_arbitrary_bytes_is_read_or_damaged(plaintext: bytes) -> None:
    try:
        for entry in decode_header(KEYS, KEYS.seal(plaintext), "pack"):
            assert entry.length >= 32
    except DamagedVault:
        return


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_a_damaged_pack(body: bytes) -> None:
    with pytest.raises(DamagedVault):
        parse_pack(KEYS, PACK, body)


def test_a_pack_with_bytes_that_no_entry_covers_is_damaged() -> None:
    name, body, _ = a_pack(b"content")
    with pytest.raises(DamagedVault, match="bytes of blobs"):
        parse_pack(KEYS, name, b"x" + body)


def test_a_header_is_read_from_the_end_of_a_pack_whatever_its_length() -> None:
    writer = a_writer()
    for count in (1, 20, 150):
        pack = writer.pack(BlobKind.DATA, [os.urandom(20) for _ in range(count)])
        size = len(writer.session.get(pack.name))
        assert read_pack_header(writer.session, writer.vault.keys, pack.name, size) == pack.entries
    with pytest.raises(TruncatedObject):
        read_pack_header(writer.session, writer.vault.keys, pack.name, 50)
    writer.finish().close()


def test_a_pack_holds_blobs_of_one_kind_and_at_least_one() -> None:
    builder = PackBuilder(KEYS, BlobKind.DATA)
    with pytest.raises(ValueError, match="at least one"):
        builder.finish()
    with pytest.raises(ValueError, match="does not go"):
        builder.add(SealedBlob(bytes(32), BlobKind.TREE, 1, compressed=False, body=KEYS.seal(b"x")))


def test_a_pack_is_full_at_so_many_blobs_and_none_of_them_is_an_object_there() -> None:
    builder = PackBuilder(KEYS, BlobKind.DATA)
    tracemalloc.start()
    try:
        while not builder.is_full:
            builder.add(SealedBlob(os.urandom(32), BlobKind.DATA, 500, compressed=True, body=bytes(100)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(builder) == MAX_BLOBS
    # The body and 45 bytes for each entry, and the eighth by which a bytearray grows; 270 if entries were objects.
    assert held < (builder.size + 45 * MAX_BLOBS) * 9 / 8 + 4096


def test_a_pack_is_full_at_its_target() -> None:
    builder = PackBuilder(KEYS, BlobKind.DATA, target=2000)
    (blob,) = seal_batch(KEYS, BlobKind.DATA, [os.urandom(1000)])
    builder.add(blob)
    assert not builder.is_full
    builder.add(blob)
    assert builder.is_full
    assert (len(builder), builder.size) == (2, 2 * 1032)


def test_large_blobs_are_sealed_and_verified_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = DataKeys.random()
    plaintext = bytearray(b"a line of text\n" * (1 << 21)) + os.urandom(1000)
    (sealed,) = seal_batch(keys, BlobKind.TREE, [plaintext])
    assert sealed.compressed
    assert open_blob(keys, entry_of(sealed, 0), sealed.body) == plaintext

    for damaged in (plaintext[:-1], plaintext + b"x", bytes(1) + plaintext[1:]):
        frame = compress(bytes(damaged))
        monkeypatch.setattr(sealing, "_compress", lambda *_, frame=frame: [frame])
        with pytest.raises(DamagedVault, match="did not open"):
            seal_batch(keys, BlobKind.TREE, [plaintext])


def test_the_tree_of_half_a_million_files_opens() -> None:
    keys = DataKeys.random()
    plaintext = bytes(sealing.MAX_BLOB + 1)
    (sealed,) = seal_batch(keys, BlobKind.TREE, [plaintext])
    assert open_blob(keys, entry_of(sealed, 0), sealed.body) == plaintext
