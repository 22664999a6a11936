from uuid import UUID

import pytest

from client.account.passwords import (
    Stretching,
    new_account,
    new_credentials,
    normalise,
    open_account_key,
    require_strong,
    stretch,
)
from client.errors import BrokenSeal, UnsafeServer, UsageError, WeakPassword

USER = UUID(int=7)
PASSWORD = "a-quiet-harbour-at-dusk"


def test_the_keys_of_a_known_password_never_change() -> None:
    keys = stretch("Gr\u00fcn-Tisch 42", Stretching(bytes(range(16))))
    assert keys.login.hex() == "71225c2908900415aaa37b963a7f9416251878771b0a686a7ec37e0d374864f6"
    assert keys.root.hex() == "67f6c09a432356fdc48d0b960eb283850f1b482279b1f019b5969dc84615a242"


def test_a_decomposed_letter_gives_the_same_keys() -> None:
    salt = Stretching(bytes(16))
    assert stretch("Gru\u0308n-Tisch", salt).login == stretch("Gr\u00fcn-Tisch", salt).login


def test_an_account_key_opens_with_its_password_alone() -> None:
    credentials, account_key = new_account(USER, PASSWORD)
    asked = Stretching.from_message(credentials.kdf)
    keys = stretch(PASSWORD, asked)
    assert credentials.login_key == keys.login
    assert open_account_key(USER, keys, credentials.sealed_key) == account_key
    with pytest.raises(BrokenSeal):
        open_account_key(USER, stretch(PASSWORD + "!", asked), credentials.sealed_key)
    with pytest.raises(BrokenSeal):
        open_account_key(UUID(int=8), keys, credentials.sealed_key)


def test_a_password_change_keeps_the_account_key_and_takes_a_new_salt() -> None:
    before, account_key = new_account(USER, PASSWORD)
    after = new_credentials(USER, "another-harbour-at-dawn", account_key)
    assert after.kdf.salt != before.kdf.salt
    keys = stretch("another-harbour-at-dawn", Stretching.from_message(after.kdf))
    assert open_account_key(USER, keys, after.sealed_key) == account_key


@pytest.mark.parametrize("password", ["short1!", "password1", "12345678", "qwertyuiop", "summer2024"])
def test_a_weak_password_is_refused_with_a_reason(password: str) -> None:
    with pytest.raises(WeakPassword, match=r"too weak: .{10}"):
        require_strong(password)


def test_a_password_made_of_the_user_name_is_refused() -> None:
    with pytest.raises(WeakPassword):
        require_strong("bartholomew1", known=["bartholomew"])


@pytest.mark.parametrize("password", ["", "two\nlines", "ends\n", "\n", "a\x00b", "x" * 1025, "broken \udcff text"])
def test_what_cannot_be_a_password_is_refused(password: str) -> None:
    with pytest.raises(UsageError):
        normalise(password)


def test_a_long_password_is_accepted() -> None:
    assert require_strong("harbour dusk lantern copper " * 10)


@pytest.mark.parametrize(
    "parameters",
    [
        Stretching(b"short"),
        Stretching(bytes(16), memory_kib=1024),
        Stretching(bytes(16), memory_kib=64 * 1024 * 1024),
        Stretching(bytes(16), iterations=1),
        Stretching(bytes(16), iterations=1_000_000),
        Stretching(bytes(16), lanes=0),
        Stretching(bytes(16), lanes=1000),
    ],
)
def test_a_server_can_neither_weaken_nor_exhaust_the_stretching(parameters: Stretching) -> None:
    with pytest.raises(UnsafeServer):
        Stretching.from_message(parameters.to_message())
