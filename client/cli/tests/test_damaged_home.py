from pathlib import Path

import pytest

from client.cli.tests.terminal import Terminal

GARBAGE = (b"", b"\xff\xfe\x00garbage \xe9\r\n\x1b[2J" * 40)
# What a login cannot do without; everything else is made anew.
NEEDED = {"account.json", "ca.pem"}


@pytest.fixture
def used(with_vault: Terminal, source: Path, tmp_path: Path) -> Terminal:
    """A home in which every kind of file is: also a job that auth was not told of."""
    backup = ("backup", str(source), "--vault", tmp_path.name)
    assert with_vault(*backup)[0] == 0
    with_vault.office.auth.is_down = True
    try:
        assert with_vault(*backup)[0] == 0
    finally:
        with_vault.office.auth.is_down = False
    return with_vault


def files_of(home: Path) -> list[Path]:
    return sorted(path for path in home.rglob("*") if path.is_file())


@pytest.mark.parametrize("garbage", GARBAGE, ids=["empty", "garbage"])
def test_whichever_file_of_the_home_is_damaged_a_clear_line_says_so_or_nothing_is_lost(
    used: Terminal, source: Path, tmp_path: Path, garbage: bytes
) -> None:
    files = files_of(used.home)
    names = {path.name for path in files}
    assert names >= NEEDED | {"session", "lock", "vaults.cache", "items.cache"}
    assert {path.suffix for path in files} >= {".json", ".lock"}
    for path in files:
        former = path.read_bytes() if path.exists() else b""
        path.write_bytes(garbage)
        for arguments in (("backup", str(source), "--vault", tmp_path.name), ("vault", "list"), ("jobs",)):
            code, _, errors = used(*arguments)
            if path.name in NEEDED:
                expected = f"backup-tool: {path} is damaged: run `backup-tool login` again.\n"
                assert (code, errors) == (4, expected), arguments
            else:
                assert (code, errors) == (0, ""), (path, arguments)
        if path.name in NEEDED:
            path.write_bytes(former)
