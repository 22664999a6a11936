"""`restore` and `dump` as a person or a script calls them."""

import io
import json
import sys
import tarfile
from pathlib import Path

import pytest

from client.cli.program import run
from client.cli.tests.terminal import Terminal


@pytest.fixture
def backed_up(with_vault: Terminal, source: Path, tmp_path: Path) -> Terminal:
    assert with_vault("backup", str(source), "--vault", tmp_path.name)[0] == 0
    return with_vault


@pytest.fixture
def there(backed_up: Terminal, source: Path, tmp_path: Path) -> Path:
    """Where the source was restored to, with a file changed and one added."""
    target = tmp_path / "target"
    assert backed_up("restore", "latest", "--target", str(target), "--vault", tmp_path.name)[0] == 0
    there = target / source.relative_to("/")
    (there / "letters" / "a.txt").write_text("dear reader, and more")
    (there / "letters" / "new").write_text("new")
    return there


def onto(tmp_path: Path, *options: str) -> tuple[str, ...]:
    target = str(tmp_path / "target")
    return ("restore", "latest", "--target", target, "--vault", tmp_path.name, "--overwrite", "always", *options)


def test_a_restore_onto_existing_data_says_what_it_did(
    backed_up: Terminal, source: Path, there: Path, tmp_path: Path
) -> None:
    code, output, errors = backed_up(*onto(tmp_path, "--delete", "--dry-run"))
    assert (code, errors) == (0, "")
    assert f"replace  {source}/letters/a.txt" in output
    assert f"delete  {source}/letters/new" in output
    assert "Nothing was done" in output
    assert (there / "letters" / "new").exists()

    code, _, errors = backed_up(*onto(tmp_path, "--delete"))
    assert code == 2
    assert f"delete  {source}/letters/new" in errors
    assert "--yes" in errors
    assert (there / "letters" / "a.txt").read_text() == "dear reader, and more"

    code, output, errors = backed_up(*onto(tmp_path, "--delete", "--yes", "--verify", "--json"))
    assert code == 0
    summary = json.loads(output.splitlines()[-1])
    assert summary.keys() == {
        *("type", "vault", "unheard", "snapshot", "files", "files_same", "dirs", "others", "left", "deleted"),
        *("bytes", "fetched_bytes"),
        *("seconds", "resumed", "warnings", "damaged", "job"),
    }
    assert (summary["files"], summary["files_same"], summary["deleted"]) == (2, 1, 1)
    assert (there / "letters" / "a.txt").read_text() == "dear reader"
    assert not (there / "letters" / "new").exists()


def test_deleting_is_for_a_target_with_something_in_it(backed_up: Terminal, tmp_path: Path) -> None:
    options = ("--target", str(tmp_path / "target"), "--vault", tmp_path.name, "--delete", "--yes")
    assert backed_up("restore", "latest", *options)[0] == 2


def test_a_person_is_asked_before_anything_is_deleted(
    backed_up: Terminal, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    command = ["--home", str(backed_up.home), *onto(tmp_path, "--delete")]
    for answer, code, is_there in (("n", 2, True), ("y", 0, False)):
        monkeypatch.setattr(sys, "stdin", Keyboard(answer + "\n"))
        assert run(command) == code
        assert (there / "letters" / "new").exists() == is_there


def test_excludes_are_stronger_than_includes(backed_up: Terminal, tmp_path: Path) -> None:
    target = tmp_path / "target"
    options = ("--iinclude", "LETTERS", "--exclude", "*.md", "--iexclude", "LINK")
    assert backed_up("restore", "latest", "--target", str(target), "--vault", tmp_path.name, *options)[0] == 0
    assert [path.name for path in target.rglob("*") if not path.is_dir()] == ["a.txt"]


def test_a_dry_run_is_no_job(backed_up: Terminal, tmp_path: Path) -> None:
    before = len(backed_up.json("jobs"))
    target = tmp_path / "target"
    options = ("--target", str(target), "--vault", tmp_path.name, "--dry-run", "--json")
    code, output, _ = backed_up("restore", "latest", *options)
    assert code == 0
    events = [json.loads(line) for line in output.splitlines()]
    assert {event["action"] for event in events if event["type"] == "would"} == {"create"}
    assert (events[-1]["files"], events[-1]["job"]) == (2, None)
    assert len(backed_up.json("jobs")) == before
    assert not target.exists()


class Pipe:
    """Standard output, where bytes can be written."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        return self.buffer.write(text.encode())

    def flush(self) -> None:
        """All is in the buffer."""


def test_dump_writes_files_and_archives(
    backed_up: Terminal, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = ("--vault", tmp_path.name)
    pipe = Pipe()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", pipe)
        code = backed_up("dump", "latest", f"{source}/letters/a.txt", *vault)[0]
    assert (code, pipe.buffer.getvalue()) == (0, b"dear reader")

    archive = tmp_path / "letters.tar.gz"
    to_file = ("dump", "latest", f"{source}/letters", *vault, "--archive", "tar.gz", "--output", str(archive))
    assert backed_up(*to_file) == (0, "", "")
    with tarfile.open(archive) as found:
        assert found.getnames() == ["letters", "letters/a.txt", "letters/b.md", "letters/link"]
    code, _, errors = backed_up(*to_file)
    assert code == 2
    assert "exists already" in errors


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("SOURCE/letters",), (2, "--archive")),
        (("SOURCE/letters/link",), (2, "is no file")),
        (("SOURCE/nothing",), (6, "has no")),
        (("SOURCE/letters/a.txt", "--output", "/nowhere/at/all"), (2, "cannot write")),
    ],
)
def test_what_cannot_be_dumped_is_refused(
    backed_up: Terminal, source: Path, tmp_path: Path, arguments: tuple[str, ...], expected: tuple[int, str]
) -> None:
    path, *options = arguments
    code, said = expected
    found, output, errors = backed_up(
        "dump", "latest", path.replace("SOURCE", str(source)), "--vault", tmp_path.name, *options
    )
    assert (found, output) == (code, "")
    assert said in errors
    assert errors.count("\n") == 1
    assert not list(tmp_path.glob(".oort-partial-*"))


@pytest.mark.parametrize("place", ["vault", "vault/data", "vault/data/new/deep", "link", "other"])
def test_nothing_is_restored_into_a_vault(backed_up: Terminal, tmp_path: Path, place: str) -> None:
    (tmp_path / "link").symlink_to("vault/data")
    for name in ("keys", "data"):
        (tmp_path / "other" / name).mkdir(parents=True)
    (tmp_path / "other" / "config").touch()
    before = sorted(tmp_path.rglob("*"))
    jobs = backed_up.json("jobs")
    options = ("--vault", tmp_path.name, "--overwrite", "always", "--delete", "--yes")

    code, output, errors = backed_up("restore", "latest", "--target", str(tmp_path / place), *options)

    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert "is a vault; choose a folder outside it" in errors
    assert sorted(tmp_path.rglob("*")) == before
    assert backed_up.json("jobs") == jobs


def test_an_empty_target_is_not_the_working_folder(backed_up: Terminal, tmp_path: Path) -> None:
    code, _, errors = backed_up("restore", "latest", "--target", "", "--vault", tmp_path.name)
    assert (code, errors) == (2, "backup-tool: --target is empty: name a folder; the working folder is '.'\n")
