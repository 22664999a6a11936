from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.account.seals import Sealer, SealPurpose
from client.errors import BrokenSeal

USER = UUID(int=7)


def a_sealer(key: bytes = bytes(32), user: UUID = USER) -> Sealer:
    return Sealer(key, user)


def test_a_known_seal_never_changes() -> None:
    sealer = Sealer(bytes(32), USER, lambda length: b"\x05" * length)
    sealed = bytes.fromhex("010505050505050505050505059ca255fa909691be30711b62dcfbd1187c66ea")
    assert sealer.seal(SealPurpose.VAULT_KEY, b"abc", "x") == sealed
    assert a_sealer().open(SealPurpose.VAULT_KEY, sealed, "x") == b"abc"


@given(plaintext=st.binary(max_size=200), subject=st.text(max_size=20))
def test_what_was_sealed_opens_again(plaintext: bytes, subject: str) -> None:
    sealed = a_sealer().seal(SealPurpose.ITEM, plaintext, subject)
    assert a_sealer().open(SealPurpose.ITEM, sealed, subject) == plaintext


def test_the_same_text_is_sealed_differently_each_time() -> None:
    sealer = a_sealer()
    assert sealer.seal(SealPurpose.ITEM, b"x") != sealer.seal(SealPurpose.ITEM, b"x")


def test_a_seal_of_another_purpose_user_subject_or_key_does_not_open() -> None:
    sealed = a_sealer().seal(SealPurpose.VAULT_KEY, b"secret", "vault 1")
    for sealer, purpose, subject in (
        (a_sealer(), SealPurpose.VAULT_PLACE, "vault 1"),
        (a_sealer(user=UUID(int=8)), SealPurpose.VAULT_KEY, "vault 1"),
        (a_sealer(), SealPurpose.VAULT_KEY, "vault 2"),
        (a_sealer(key=bytes(31) + b"\1"), SealPurpose.VAULT_KEY, "vault 1"),
    ):
        with pytest.raises(BrokenSeal):
            sealer.open(purpose, sealed, subject)


def test_a_seal_with_any_bit_changed_or_cut_short_does_not_open() -> None:
    sealed = a_sealer().seal(SealPurpose.ITEM, b"abc")
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises(BrokenSeal):
            a_sealer().open(SealPurpose.ITEM, bytes(altered))
        with pytest.raises(BrokenSeal):
            a_sealer().open(SealPurpose.ITEM, sealed[:place])
