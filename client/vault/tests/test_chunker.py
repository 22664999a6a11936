import hashlib
import io
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.vault.chunker import MAX_CHUNK, MIN_CHUNK, Chunker, chunker_seed
from client.vault.polynomial import is_irreducible, random_polynomial
from client.vault.tests.builders import KEYS


def content(size: int, label: bytes = b"golden") -> bytes:
    """Bytes that are the same on every machine, for ever."""
    return hashlib.shake_128(label).digest(size)


CONTENT = content(40 << 20)
# The cuts of CONTENT. They must never change: every vault would be sent anew.
GOLDEN = {
    0: [
        1184402,
        1105824,
        1284569,
        653949,
        1228733,
        1045390,
        927801,
        1266298,
        1461434,
        1048664,
        1059529,
        1349011,
        2554460,
        1435103,
        1166525,
        979966,
        623856,
        1093695,
        1050010,
        1698725,
        2417527,
        938295,
        1393992,
        1701191,
        991029,
        2208607,
        1052018,
        921550,
        2044871,
        1130647,
        1120105,
        1595107,
        210157,
    ],
    1: [
        2108473,
        1151225,
        1213199,
        2934425,
        817159,
        664133,
        1683206,
        1225851,
        1939599,
        1917212,
        1439928,
        1489667,
        1067984,
        2185315,
        1710497,
        1186990,
        1078726,
        2477950,
        1052296,
        726614,
        1087842,
        798317,
        1098009,
        1061420,
        1049818,
        1132923,
        1064243,
        2160140,
        1116781,
        593319,
        709779,
    ],
    1287879602513608628: [
        1140749,
        1148912,
        1287319,
        713088,
        1064500,
        944132,
        956469,
        1360010,
        1592275,
        1735955,
        2571333,
        1263882,
        1749507,
        1844224,
        749002,
        1171726,
        1762684,
        612549,
        1763580,
        2660068,
        1665379,
        1725550,
        1841711,
        1297478,
        5187292,
        1272527,
        861139,
    ],
    9223372036854775807: [
        639960,
        1651568,
        3417796,
        2240277,
        2516623,
        1868192,
        1257172,
        619024,
        2002352,
        1183874,
        2827704,
        1661815,
        1120558,
        1394562,
        1253933,
        1489322,
        1280353,
        3082069,
        1130099,
        1533942,
        1331820,
        2284232,
        1099845,
        1575070,
        1480878,
    ],
}


def streamed(chunker: Chunker, readinto: Callable[[memoryview], int | None]) -> list[bytes]:
    """The chunks of a stream, all through one buffer."""
    cutter, buffer = chunker.cutter(readinto), memoryview(bytearray(MAX_CHUNK))
    chunks: list[bytes] = []
    while not cutter.is_at_end:
        chunks += map(bytes, cutter.fill(buffer))
    return chunks


def test_the_seed_is_derived_from_the_data_keys_for_ever() -> None:
    assert chunker_seed(KEYS) == 1287879602513608628


@pytest.mark.parametrize("seed", GOLDEN)
def test_the_cuts_stay_the_same_for_ever(seed: int) -> None:
    assert Chunker(seed).lengths(CONTENT) == GOLDEN[seed]


def test_chunks_join_to_the_content_within_the_limits() -> None:
    chunks = Chunker(5).cut(CONTENT)
    assert b"".join(chunks) == CONTENT
    assert all(MIN_CHUNK <= len(chunk) <= MAX_CHUNK for chunk in chunks[:-1])


@pytest.mark.parametrize("size", [0, 1, MIN_CHUNK - 1, MIN_CHUNK, MIN_CHUNK + 1, MAX_CHUNK, MAX_CHUNK + 1])
def test_contents_of_one_or_no_chunk(size: int) -> None:
    body = bytes(size)
    lengths = Chunker(0).lengths(body)
    assert sum(lengths) == size
    assert len(lengths) == -(-size // MAX_CHUNK)
    assert [len(chunk) for chunk in streamed(Chunker(0), io.BytesIO(body).readinto)] == lengths


class Dripping(io.RawIOBase):
    """Gives its content in parts of the given sizes, over and over."""

    def __init__(self, body: bytes, sizes: list[int]) -> None:
        self._body = io.BytesIO(body)
        self._sizes = itertools.cycle(sizes)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._body.readinto(buffer[: next(self._sizes)])


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1000, 3 << 20), min_size=1, max_size=5),
    st.integers(0, 30 << 20),
    st.sampled_from([0, 2**63 - 1]),
)
def test_cuts_do_not_depend_on_how_the_content_is_fed(sizes: list[int], length: int, seed: int) -> None:
    chunker = Chunker(seed)
    body = CONTENT[:length]
    chunks = streamed(chunker, Dripping(body, sizes).readinto)
    assert [len(chunk) for chunk in chunks] == chunker.lengths(body)
    assert b"".join(chunks) == body


def test_an_insertion_moves_the_cuts_only_near_it() -> None:
    chunker = Chunker(1)
    before = {bytes(chunk) for chunk in chunker.cut(CONTENT)}
    after = {bytes(chunk) for chunk in chunker.cut(CONTENT[:9_000_000] + b"inserted" + CONTENT[9_000_000:])}
    assert len(after - before) <= 3


def test_another_seed_cuts_elsewhere() -> None:
    assert Chunker(1).lengths(CONTENT) != Chunker(2).lengths(CONTENT)


@pytest.mark.parametrize("seed", [-1, 1 << 63])
def test_a_seed_has_63_bits(seed: int) -> None:
    with pytest.raises(ValueError, match="63 bits"):
        Chunker(seed)


# restic's polynomial

KNOWN_IRREDUCIBLE = [0x25B468838DCB75, 0x396FEBDD2F9DD5, 0x202DA947FD409F, 0x3DA3358B4DC173]


@pytest.mark.parametrize("polynomial", KNOWN_IRREDUCIBLE)
def test_polynomials_that_restic_made_are_irreducible(polynomial: int) -> None:
    assert is_irreducible(polynomial)
    assert not is_irreducible(polynomial ^ 1)  # divisible by x
    assert not is_irreducible(polynomial >> 1)  # of a lower degree


def product(first: int, second: int) -> int:
    result = 0
    while second:
        if second & 1:
            result ^= first
        first, second = first << 1, second >> 1
    return result


@given(st.integers(1, 51), st.data())
def test_products_are_reducible(degree: int, data: st.DataObject) -> None:
    factors = [1 << d | data.draw(st.integers(0, (1 << d) - 1)) for d in (degree, 53 - degree)]
    assert not is_irreducible(product(*factors))


@given(st.integers(0, 255))
def test_random_polynomials_are_irreducible_and_of_degree_53(start: int) -> None:
    counter = itertools.count(start)
    polynomial = random_polynomial(lambda size: hashlib.shake_128(bytes([next(counter) & 255])).digest(size))
    assert is_irreducible(polynomial)
    assert polynomial.bit_length() == 54
