import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import DamagedVault
from client.vault.keys import (
    COST_OF_CHOSEN,
    COST_OF_RANDOM,
    DataKeys,
    ScryptCost,
    create_key_file,
    open_key_file,
    scrypt_cost,
)
from client.vault.tests.builders import KEYS

CHEAP = ScryptCost(16, 8, 1)


@given(st.binary(max_size=5000))
def test_what_was_sealed_opens(plaintext: bytes) -> None:
    sealed = KEYS.seal(plaintext)
    assert len(sealed) == len(plaintext) + 32
    assert KEYS.open(sealed) == plaintext


@given(st.binary(max_size=200), st.data())
def test_one_changed_bit_is_found(plaintext: bytes, data: st.DataObject) -> None:
    sealed = bytearray(KEYS.seal(plaintext))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedVault):
        KEYS.open(sealed)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_do_not_open(sealed: bytes) -> None:
    with pytest.raises(DamagedVault):
        KEYS.open(sealed)


def test_sealing_twice_gives_other_bytes() -> None:
    assert KEYS.seal(b"same") != KEYS.seal(b"same")


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_any_buffer_is_sealed_and_opened(buffer: type) -> None:
    assert KEYS.open(buffer(KEYS.seal(buffer(b"content")))) == b"content"


def test_the_tag_is_poly1305_aes() -> None:
    """From the paper that defines it (D. J. Bernstein, poly1305-20050329, appendix B)."""
    keys = DataKeys(
        bytes([1]) * 32,
        bytes.fromhex("ec074c835580741701425b623235add6"),
        bytes.fromhex("851fc40c3467ac0be05cc20404f3f700"),
    )
    nonce, tag = "fb447350c4e868c52ac3275cf9d4327e", "f4c633c3044fc145f84f335cb81953de"
    assert len(keys.open(bytes.fromhex(nonce + "f3f6" + tag))) == 2


@pytest.mark.parametrize("lengths", [(31, 16, 16), (32, 15, 16), (32, 16, 17)])
def test_keys_of_other_lengths_are_refused(lengths: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="bytes long"):
        DataKeys(*(bytes([1]) * length for length in lengths))


def test_keys_of_zeros_are_refused() -> None:
    with pytest.raises(ValueError, match="zero"):
        DataKeys(bytes(32), bytes(16), bytes(16))


def test_random_keys_differ_and_say_nothing_of_themselves() -> None:
    keys = DataKeys.random()
    assert keys != DataKeys.random()
    assert repr(keys) == "DataKeys(...)"


@pytest.mark.parametrize("password", ["correct horse", "pä\u1e9eword \U0001f600", ""])
def test_a_key_file_opens_with_its_password_alone(password: str) -> None:
    body = create_key_file(password, KEYS, cost=CHEAP)
    assert open_key_file(password, body) == KEYS
    assert open_key_file(password + "x", body) is None


def test_a_key_file_names_no_one_unless_told_to() -> None:
    body = create_key_file("p", KEYS, cost=CHEAP, now_ns=lambda: 1_704_164_645_000_600_000)
    document = json.loads(body)
    assert list(document) == ["created", "username", "hostname", "kdf", "N", "r", "p", "salt", "data"]
    assert (document["username"], document["hostname"]) == ("", "")
    assert document["created"] == "2024-01-02T03:04:05.0006Z"


def test_a_random_password_is_stretched_little_and_a_chosen_one_much() -> None:
    assert scrypt_cost("5e" * 32) == COST_OF_RANDOM
    assert scrypt_cost("correct horse battery staple") == COST_OF_CHOSEN


# Made by restic 0.14 with the password `x`: what must open for ever.
RESTIC_KEY_FILE = (
    b'{"created":"2026-11-23T04:05:02.742971997Z","username":"root","hostname":"vm","kdf":"scrypt","N":32768,"r":8,"p":4,'
    b'"salt":"zDi5bvNLzB7tGo6XaJ6dC5X2Jt1FJgU33WaWt1LL4kmo+DLwzSCpgeWiN8KrMPTnV6vjALJoRJ7lsdNw/ChxpA==",'
    b'"data":"XS3rZNQLWbt6Jd5FWiYFtvs1kRS0cA60hesqUojeZKVi/d3VuArdIjt0+ZeC7agKsjibYK667OR70UTVYdjhPvqCQjXW'
    b"tcJNCUKVQv0pNzDRPY6ZR2UrvfpNqwnIbeA3JvyL+Q9n4WdU/jb10MjPFZdbZ1U7w7e3PCgv2ikByn6M9s6a+JoteG9CBgPTeaQV"
    b'oTZ5figQeKHFAQbceo/chw=="}'
)
RESTIC_MASTER = DataKeys(
    bytes.fromhex("1ca464ba76fc0c6d7c3c3fa08bbdce96614b4343826f94d5efcbef62948fe24b"),
    bytes.fromhex("974789f8bfaf597203309f6c3df3d9c2"),
    bytes.fromhex("0e8f1f0da4f3b90cb048a60044bfb408"),
)


def test_a_key_file_of_restic_opens() -> None:
    assert open_key_file("x", RESTIC_KEY_FILE) == RESTIC_MASTER
    assert open_key_file("y", RESTIC_KEY_FILE) is None


@pytest.mark.parametrize(
    "change",
    [
        {"kdf": "pbkdf2"},
        {"N": 0},
        {"N": 1000},
        {"N": 1},
        {"N": 1 << 40},
        {"N": 1 << 18, "r": 16},  # half a gigabyte
        {"N": 1 << 10, "r": 8, "p": 1 << 12},  # a quarter of a minute
        {"N": "16"},
        {"N": True},
        {"r": 1 << 30},
        {"p": 1 << 30},
        {"p": None},
        {"salt": 5},
        {"salt": "?"},
        {"data": ""},
        {"data": "AAAA"},
    ],
)
def test_a_key_file_with_impossible_fields_is_damaged(change: dict[str, object]) -> None:
    document = json.loads(create_key_file("p", KEYS, cost=CHEAP)) | change
    with pytest.raises(DamagedVault):
        open_key_file("p", json.dumps(document).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bytes_are_a_damaged_key_file(body: bytes) -> None:
    with pytest.raises(DamagedVault):
        open_key_file("p", body)


@given(st.dictionaries(st.sampled_from(["kdf", "N", "r", "p", "salt", "data"]), JSON | st.just("scrypt")))
def test_arbitrary_fields_are_a_damaged_key_file(fields: dict[str, object]) -> None:
    with pytest.raises(DamagedVault):
        open_key_file("p", json.dumps({"kdf": "scrypt", **fields}).encode())
