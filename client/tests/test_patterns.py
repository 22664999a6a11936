"""What a pattern takes, and that restic takes the same."""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from client.errors import UsageError
from client.patterns import Pattern, PatternList, read_patterns

FILES = (
    *("a/b/c/f", "foo/bar/g", "foo/h", "foo/bar/foo/i", "x/[z", "x/!q", "x/a.TXT", "x/b.txt", "x/a-b", "x/ab", "x/\\w"),
    *("grün/blau", "x/two\nlines", "x/-", "x/star*", "deep/1/2/3/4/g"),
)
LISTS = (
    *(("foo",), ("foo/",), ("./foo",), ("x/../foo",), ("*.txt",), ("*.[tT][xX][tT]",), ("foo/**",), ("**/g",)),
    *(("src/*/b",), ("src/**/g",), ("a/**/f",), ("**",), ("*",), ("[^x]",), ("[a-c]",), ("\\[z",), ("\\!q",), ("*q",)),
    *(("c/f",), ("bar",), ("/foo",), ("/**/h",), ("/nowhere/**",), ("/**/foo/*",), ("gr?n",), ("*ü*",), ("two?lines",)),
    *(("?",), ("a?b",), ("a\\-b",), ("[\\-]",), ("x/*\\**",), ("x/\\\\w",), ("**/foo/**/i",), ("deep/**/4",)),
    *(("*/*/h",), ("/src/foo/bar/",), ("/**/src/foo",), ("/src",), ("/src/*/bar",), ("/src/**/bar",)),
    *(("/src/*", "!/src/foo"), ("!foo", "foo"), ("foo", "!h"), ("*", "!*"), ("x/*", "!*.txt", "b*")),
    *(("foo", "bar", "!foo", "g"), ("*.txt", "*.TXT", "!x/a*"), ("**/g", "!deep")),
)
ANYWHERE = (("foo", "*.txt", "c/f", "[^a-z0-9]*"), ("*", "!*"), ("src/**/g", "!deep"))


@pytest.mark.needs("restic")
def test_restic_leaves_out_the_same(tmp_path: Path) -> None:
    """Each list in a folder of its own, to which its patterns are bound: restic takes half a second to start."""
    repository = tmp_path / "repository"
    restic(repository, "init")
    source = tmp_path / "source"
    for number in range(len(LISTS)):
        a_tree(source / f"{number:02}" / "src")
    bound = [bind(pattern, source / f"{number:02}") for number, patterns in enumerate(LISTS) for pattern in patterns]
    assert kept_by_restic(repository, source, bound) == kept_by_us(source, bound)
    for patterns in ANYWHERE:
        assert kept_by_restic(repository, source / "00", patterns) == kept_by_us(source / "00", patterns)


def a_tree(folder: Path) -> None:
    for file in FILES:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


def bind(pattern: str, folder: Path) -> str:
    """The pattern, for what is in the folder only."""
    sign, text = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    return f"{sign}{folder}{text}" if text.startswith("/") else f"{sign}{folder.name}/**/{text}"


def kept_by_us(source: Path, patterns: Sequence[str]) -> set[str]:
    excludes = PatternList(patterns)
    return {str(path) for path in (source, *source.rglob("*")) if not any(map(excludes.matches, folders(path)))}


def folders(path: Path) -> list[str]:
    """The path and all that it is in: what is left out is not entered."""
    return [str(above) for above in (path, *path.parents[:-1])]


def kept_by_restic(repository: Path, source: Path, excludes: Sequence[str]) -> set[str]:
    options = [option for pattern in excludes for option in ("--exclude", pattern)]
    output = restic(repository, "backup", "--dry-run", "-vv", "--force", "--json", str(source), *options)
    items = [document["item"] for document in map(json.loads, output.splitlines()) if document.get("item")]
    return {item.rstrip("/") for item in items if item.startswith(str(source))}


def restic(repository: Path, *arguments: str) -> str:
    environment = {**os.environ, "RESTIC_PASSWORD": "x"}
    done = subprocess.run(
        ["restic", "--repo", str(repository), "--no-cache", *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 or "snapshot is empty" in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("pattern", "path", "taken"),
    [
        ("[!x]*", "/a", True),  # as shells write it; to restic this is a class with a `!` in it
        ("[!x]*", "/x", False),
        ("[]", "/x", None),
        ("a[", "/x", None),
        ("a[-z]", "/x", None),
        ("a[z-a]", "/x", None),
        ("a\\", "/x", None),
        ("", "/x", None),
        ("/", "/x", None),
        ("..", "/x", None),
        ("../x", "/x", None),
        ("caf?", "/caf\udce9", True),  # a byte that is no text is one character
        ("a*b", "/a/b", False),
        ("[^b]x", "/a/x", False),
    ],
)
def test_a_pattern_takes_a_path_or_is_refused(pattern: str, path: str, taken: bool | None) -> None:
    if taken is None:
        with pytest.raises(UsageError, match="the pattern"):
            Pattern(pattern)
    else:
        assert Pattern(pattern).matches(path) is taken


def test_case_counts_only_where_it_should() -> None:
    assert not PatternList(["*.Txt", "GRÜN"]).matches("/grün/a.tXT")
    assert PatternList(["*.Txt"], ignore_case=True).matches("/a.tXT")
    assert PatternList(["GRÜN"], ignore_case=True).matches("/grün")
    assert PatternList(["[a-c]x"], ignore_case=True).matches("/BX")


@pytest.mark.parametrize(
    ("pattern", "folder", "may"),
    [
        ("x", "/a", True),
        ("/a/b", "/", True),
        ("/a/b", "/a", True),
        ("/a/b", "/b", False),
        ("/a/b", "/a/c", False),
        ("/a/**/b", "/a/c/d", True),
        ("/a/**/b", "/c", False),
        ("/?/[bc]/x", "/a/b", True),
        ("/?/[bc]/x", "/a/d", False),
    ],
)
def test_whether_something_below_a_folder_may_match(pattern: str, folder: str, may: bool) -> None:
    assert Pattern(pattern).may_match_below(folder) is may


def test_many_stars_cost_no_time() -> None:
    began = time.process_time()
    assert not Pattern("/" + "a*" * 30 + "b").matches("/" + "a" * 250)
    assert time.process_time() - began < 1


def test_a_file_of_patterns_has_comments_and_variables() -> None:
    text = "# mine\n\n  *.o  \n$HOME/x\n${HOME}y\n$$z\n\\#kept\n"
    assert list(read_patterns(text, {"HOME": "/home/anna"})) == [
        *("*.o", "/home/anna/x", "/home/annay", "$z", "\\#kept"),
    ]
    with pytest.raises(UsageError, match=r"\$NONE of a pattern is not set"):
        list(read_patterns("$NONE/*", {}))
