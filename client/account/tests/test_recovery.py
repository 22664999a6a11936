from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.account import recovery
from client.errors import BadRecoveryCode, BrokenSeal

USER = UUID(int=7)
CODE = "000GD-40R4S-0M308-E209Z-185GK-R38ES-1W81S-24GK3-2GAH4-C5RR3-34D16-P70XM-3RFP5"
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def test_a_known_code_never_changes() -> None:
    assert recovery.write_code(bytes(range(32))) == CODE
    assert recovery.proof(bytes(range(32))).hex() == (
        "4232b323ca60a49763deea0756d823176961d8ed142ad7b95d731f452b92cc6b"
    )


@given(st.binary(min_size=32, max_size=32))
def test_a_printed_code_reads_back(secret: bytes) -> None:
    code = recovery.write_code(secret)
    assert recovery.read_code(code) == secret
    assert recovery.read_code(" " + code.lower().replace("-", " ").replace("0", "o").replace("1", "l")) == secret


def test_every_single_typing_error_is_found() -> None:
    for place, character in enumerate(CODE):
        if character == "-":
            continue
        for other in ALPHABET.replace(character, ""):
            with pytest.raises(BadRecoveryCode, match=f"group {place // 6 + 1} "):
                recovery.read_code(CODE[:place] + other + CODE[place + 1 :])


def test_swapped_neighbours_and_groups_are_found() -> None:
    for place in range(len(CODE) - 1):
        swapped = CODE[:place] + CODE[place + 1] + CODE[place] + CODE[place + 2 :]
        if swapped.replace("-", "") != CODE.replace("-", ""):
            with pytest.raises(BadRecoveryCode):
                recovery.read_code(swapped)
    groups = CODE.split("-")
    for place in range(len(groups) - 1):
        swapped_groups = [*groups[:place], groups[place + 1], groups[place], *groups[place + 2 :]]
        with pytest.raises(BadRecoveryCode):
            recovery.read_code("-".join(swapped_groups))


@pytest.mark.parametrize("text", ["", CODE[:-1], CODE + "0", CODE.replace("G", "U", 1), CODE.replace("G", "\u00e9", 1)])
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(BadRecoveryCode):
        recovery.read_code(text)


def test_the_account_key_opens_with_its_code_alone() -> None:
    secret = recovery.read_code(recovery.new_code())
    sealed = recovery.seal_account_key(secret, USER, b"k" * 32)
    assert recovery.open_account_key(secret, USER, sealed) == b"k" * 32
    with pytest.raises(BrokenSeal):
        recovery.open_account_key(recovery.read_code(recovery.new_code()), USER, sealed)
