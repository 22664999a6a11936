"""What is to be backed up, as a command line says it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from client.cli.amounts import size_of
from client.cli.choice import listed_paths
from client.cli.tests.terminal import ROOT, Terminal
from client.errors import UsageError


def names_in(with_vault: Terminal, vault: str) -> set[str]:
    """The names of all that is in the newest snapshot and no folder."""
    return {
        Path(node["path"]).name for node in with_vault.json("ls", "latest", "--vault", vault) if node["type"] != "dir"
    }


def test_what_is_left_out_is_no_warning(with_vault: Terminal, source: Path, tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("# mine\n*.md\n$OURS\n")
    with_vault.monkeypatch.setenv("OURS", "link")
    (source / "A.TXT").write_bytes(bytes(2000))
    (source / "b.txt").touch()
    (source / "cache").mkdir()
    (source / "cache" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    (source / "cache" / "data").touch()
    options = ("--exclude-file", str(tmp_path / "rules"), "--iexclude", "B.*", "--exclude-regex", "letters/x+")
    more = (
        "--exclude-larger-than",
        "1k",
        "--exclude-caches",
        "--exclude-nodump",
        "-x",
        "--readers",
        "2",
        "-e",
        "none",
        "--compression",
        "max",
    )
    code, output, errors = with_vault("backup", str(source), "--vault", tmp_path.name, *options, *more)
    assert (code, errors) == (0, "")
    assert "warning" not in output
    assert names_in(with_vault, tmp_path.name) == {"a.txt", "CACHEDIR.TAG"}


WRONG = (
    (("SOURCE", "--exclude", "a["), "the pattern 'a['"),
    (("SOURCE", "--exclude-regex", "("), "the regular expression '('"),
    (("SOURCE", "--exclude-file", "/nowhere/at/all"), "cannot read /nowhere/at/all: no such file"),
    (("SOURCE", "--iexclude-file", "/"), "cannot read /: is a directory"),
    (("SOURCE", "--exclude-larger-than", "much"), "'much' is no size"),
    (("SOURCE", "--exclude-if-present", ":x"), "':x' is no name of a file"),
    (("--files-from", "/dev/null"), "/dev/null lists no path"),
    (("--files-from-raw", "/proc/version"), "/proc/version is cut off"),
    (("--files-from", "-", "--files-from-raw", "-"), "standard input can be read once only"),
    (("--files-from", "-", "--exclude-file", "-"), "standard input can be read once only"),
    (("SOURCE", "--exclude-file", "-", "--iexclude-file", "-"), "standard input can be read once only"),
    (("SOURCE", "--stdin"), "--stdin takes no PATH"),
    (("--stdin", "--stdin-command"), "not both"),
    (("--stdin", "--exclude", "x"), "a stream is one file"),
    (("--stdin", "--stdin-filename", ".."), "'..' is no name"),
    (("--stdin-command",), "there is no command to run"),
    (("--stdin-command", "--", "no-such-program"), "cannot run no-such-program"),
    (("SOURCE", "--readers", "0"), "--readers"),
    (("SOURCE", "--compression", "best"), "--compression is auto, max, off"),
)


def test_what_is_wrong_is_told_in_a_line_and_nothing_is_done(
    with_vault: Terminal, source: Path, tmp_path: Path
) -> None:
    jobs = with_vault.json("jobs")
    for arguments, told in WRONG:
        given = [str(source) if argument == "SOURCE" else argument for argument in arguments]
        code, output, errors = with_vault("backup", "--vault", tmp_path.name, *given)
        assert (code, output, errors.count("\n")) == (2, "", 1), arguments
        assert told in errors
    assert with_vault.json("jobs") == jobs


def test_lists_name_what_to_back_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.txt", ".c.txt", "# d", "e\nf", os.fsdecode(b"g\xff")):
        Path(name).touch()
    Path("globs").write_text("# these\n\n  ?.txt  \n.c.txt\nnone*\n")
    Path("lines").write_bytes(b"# d\ng\xff\n\nnone\n")
    Path("raw").write_bytes(b"e\nf\0a.txt\0")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("raw").read_bytes())))
    listed = listed_paths(["globs"], ["lines"], ["-"])
    assert listed.paths == [b"a.txt", b"b.txt", b".c.txt", b"# d", b"g\xff", b"e\nf", b"a.txt"]
    assert [missing.path for missing in listed.missing] == [b"none*", b"none"]
    Path("gone").write_text("none\nnone either\n")
    with pytest.raises(UsageError, match="none of the paths in gone exists"):
        listed_paths([], ["gone"], [])


def test_lists_may_be_written_as_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c\r", "d\r"):
        Path(name).touch()
    Path("globs").write_bytes(b"\xef\xbb\xbf# these\r\na\r\n\r\nb\r\n")
    Path("lines").write_bytes(b"\xef\xbb\xbfa\r\n\r\nb")
    Path("raw").write_bytes(b"c\r\0")
    listed = listed_paths(["globs"], ["lines"], ["raw"])
    assert listed.paths == [b"a", b"b", b"a", b"b", b"c\r"]
    assert listed.missing == []
    Path("only a mark").write_bytes(b"\xef\xbb\xbf\r\n")
    for globs, lines, raw in ((["only a mark"], [], []), ([], ["only a mark"], []), ([], [], ["/dev/null"])):
        with pytest.raises(UsageError, match="lists no path"):
            listed_paths(globs, lines, raw)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf*.md\r\nlink\r\n", b"\xef\xbb\xbf*.md\r\nlink\n\xff"])
def test_patterns_may_be_written_as_on_windows(
    with_vault: Terminal, source: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "rules").write_bytes(content)
    rules = ("--exclude-file", str(tmp_path / "rules"))
    assert with_vault("backup", str(source), "--vault", tmp_path.name, *rules)[0] == 0
    assert names_in(with_vault, tmp_path.name) == {"a.txt"}


def test_what_a_list_names_and_is_not_there_is_a_warning(with_vault: Terminal, source: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{source}/letters/a.txt\n{source}/none\n")
    code, _, errors = with_vault("backup", "--vault", tmp_path.name, "--files-from", str(tmp_path / "list"))
    assert code == 3
    assert f"{source}/none: is in a list of paths: no such file or directory" in errors
    assert names_in(with_vault, tmp_path.name) == {"a.txt"}


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("500", 500), ("2k", 2048), ("3M", 3 << 20), ("1T", 1 << 40)])
def test_sizes_have_units_of_1024(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5M", "1 MB", "\u0663x"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        size_of(text)


def test_standard_input_is_backed_up(with_vault: Terminal, tmp_path: Path) -> None:
    options = ("--vault", tmp_path.name, "--stdin", "--stdin-filename", "db/dump.sql", "--json")
    command = [sys.executable, "-m", "client.cli", "--home", str(with_vault.home), "backup", *options]
    done = subprocess.run(command, cwd=ROOT, input=b"\x00data\xff", capture_output=True, check=True)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["total_bytes"], summary["warnings"]) == (6, 0)
    assert with_vault.json("snapshots", "--vault", tmp_path.name)[0]["paths"] == ["/db/dump.sql"]
    assert with_vault("restore", "latest", "--target", str(tmp_path / "target"), "--vault", tmp_path.name)[0] == 0
    assert (tmp_path / "target" / "db" / "dump.sql").read_bytes() == b"\x00data\xff"
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 1
    assert "standard input gave nothing" in json.loads(done.stderr)["message"]
