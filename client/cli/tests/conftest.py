from collections.abc import Iterator
from pathlib import Path

import pytest

from client.account.tests.an_auth import Office, an_office
from client.cli.tests.terminal import Terminal
from client.tests.tls import an_authority


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with an_office(an_authority(), tmp_path_factory.mktemp("office")) as office:
        yield office


@pytest.fixture
def terminal(
    office: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Terminal:
    for setting in ("views._LINE_SECONDS", "progress._PROGRESS_SECONDS", "copy._PROGRESS_SECONDS"):
        monkeypatch.setattr(f"client.cli.{setting}", 3600.0)  # a busy machine puts no line between those looked for
    return Terminal(office, tmp_path / "home", capsys, monkeypatch)


@pytest.fixture
def with_vault(terminal: Terminal, tmp_path: Path) -> Terminal:
    """Logged in, with a local vault named as the test's folder is."""
    assert terminal.log_in()[0] == 0
    assert terminal("vault", "add", "--local", str(tmp_path / "vault"), "--name", tmp_path.name)[0] == 0
    return terminal


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "letters").mkdir(parents=True)
    (folder / "letters" / "a.txt").write_text("dear reader")
    (folder / "letters" / "b.md").write_text("# dear reader")
    (folder / "letters" / "link").symlink_to("a.txt")
    return folder
