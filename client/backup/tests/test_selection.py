"""What is left out because a person wants it so."""

import os
import subprocess
from pathlib import Path

import pytest

from client.backup.selection import CACHE_TAG, EVERYTHING, Marker, Selection, Selector
from client.errors import NothingLeft, UsageError
from client.testing.vaults import PASSWORD, VaultForTests, a_vault
from client.vault.walk import list_snapshot
from domain.names import ObjectKind

TAG = b"Signature: 8a477f597d28d172789f06886806bc55"
FILES = {
    "cache/CACHEDIR.TAG": TAG + b"\n# made by a test",
    "cache/below/data": b"cached",
    "no cache/CACHEDIR.TAG": TAG[:-1],
    "no cache/data": b"kept",
    "odd cache/CACHEDIR.TAG/data": b"the tag is a folder",
    "marked/.nobackup": b"",
    "marked/data": b"",
    "headed/.skip": b"yes, please",
    "headed/data": b"",
    "other head/.skip": b"no",
    "other head/data": b"",
    "sizes/1000": bytes(1000),
    "sizes/1001": bytes(1001),
    "code/main.c": b"",
    "code/main.o": b"",
    "code/MAIN.O": b"",
    "code/lib/main.o": b"",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def vault(tmp_path: Path) -> VaultForTests:
    return a_vault(tmp_path / "vault")


def kept(vault: VaultForTests, source: Path, snapshot: str = "latest") -> set[str]:
    """What the snapshot has of the source, by paths within it."""
    root = os.fsencode(source)
    with vault.opened() as opened:
        listed = list_snapshot(opened, opened.find_snapshot(snapshot), root)
        return {os.fsdecode(entry.path[len(root) + 1 :]) for entry in listed}


def everything_in(source: Path) -> set[str]:
    return {str(path.relative_to(source)) for path in source.rglob("*")} | {""}


@pytest.mark.needs("restic")
def test_restic_leaves_out_the_same(vault: VaultForTests, source: Path) -> None:
    options = ("--exclude-caches", "--exclude-if-present", ".nobackup", "--exclude-if-present", ".skip:yes")
    restic(vault.path, "backup", str(source), *options, "--exclude-larger-than", "1000", "--iexclude", "code/*.o")
    theirs = kept(vault, source)
    markers = (CACHE_TAG, Marker(b".nobackup"), Marker(b".skip", b"yes"))
    summary = vault.backup(source, selection=Selection(markers=markers, larger_than=1000, iexcludes=("code/*.o",)))
    assert kept(vault, source, summary.snapshot.id) == theirs
    assert everything_in(source) - theirs == {
        *("cache/below", "cache/below/data", "marked/data", "headed/data", "sizes/1001", "code/main.o", "code/MAIN.O"),
    }
    assert summary.warnings == ()
    assert vault.problems() == []


def restic(repository: Path, *arguments: str) -> None:
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD}
    subprocess.run(
        ["restic", "--repo", str(repository), "--no-cache", "--quiet", *arguments], env=environment, check=True
    )


def test_what_a_pattern_or_an_expression_matches_is_not_even_looked_at(
    vault: VaultForTests, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.lstat

    def refusing(path: bytes, *arguments: object, **named: object) -> os.stat_result:
        assert b"/code/" not in path
        return real(path, *arguments, **named)  # type: ignore[arg-type]

    odd = os.fsencode(source) + b"/odd \xff.tmp"
    Path(os.fsdecode(odd)).touch()
    monkeypatch.setattr(os, "lstat", refusing)
    selection = Selection(
        excludes=("code", "!other*"), expressions=(r"source/(?:no|odd) [a-z]+", r"\d{4}$", "odd .[.]")
    )
    vault.backup(source, selection=selection)
    gone = {name for name in everything_in(source) if name.startswith(("code", "no ", "odd ", "sizes/"))}
    assert kept(vault, source) == everything_in(source) - gone
    with vault.opened() as opened:
        assert opened.find_snapshot("latest").excludes == ("code", "!other*")


def test_what_was_left_out_is_back_when_it_is_wanted_again(vault: VaultForTests, source: Path) -> None:
    first = vault.backup(source)
    second = vault.backup(source, parent=first.snapshot, selection=Selection(excludes=("code", "sizes/*")))
    assert not any(name.startswith(("code", "sizes/")) for name in kept(vault, source, second.snapshot.id))
    third = vault.backup(source, parent=second.snapshot)
    assert kept(vault, source, third.snapshot.id) == everything_in(source)
    assert (second.files_unmodified, third.files_unmodified, third.files_new) == (11, 11, 6)
    assert vault.problems() == []


@pytest.mark.needs("chattr")
def test_what_has_the_nodump_flag_is_left_out_on_demand(vault: VaultForTests, source: Path) -> None:
    for name in ("code/lib", "sizes/1000"):
        done = subprocess.run(["chattr", "+d", source / name], check=False, capture_output=True)
        if done.returncode:
            pytest.skip("this file system has no flags")
    whole = vault.backup(source)
    assert kept(vault, source, whole.snapshot.id) == everything_in(source)
    part = vault.backup(source, selection=Selection(nodump=True))
    assert everything_in(source) - kept(vault, source, part.snapshot.id) == {
        "code/lib",
        "code/lib/main.o",
        "sizes/1000",
    }


def test_other_file_systems_are_left_out_but_for_the_places_where_they_are_mounted(
    vault: VaultForTests, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_another_device(source, ("cache", "sizes/1000", "code", "code/lib"), monkeypatch)
    vault.backup(source, selection=Selection(one_file_system=True))
    gone = {name for name in everything_in(source) if name.startswith(("cache/", "code/"))} | {"sizes/1000"}
    assert kept(vault, source) == everything_in(source) - gone


def test_another_file_system_that_was_given_too_is_taken(
    vault: VaultForTests, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_another_device(source, ("code", "cache"), monkeypatch)
    vault.backup(source, source / "code", f"{source}/sizes/", selection=Selection(one_file_system=True))
    gone = {name for name in everything_in(source) if name.startswith("cache/")}
    assert kept(vault, source) == everything_in(source) - gone
    summary = vault.backup(source / "code" / "main.c", source / "sizes", selection=Selection(one_file_system=True))
    assert kept(vault, source, summary.snapshot.id) == {"", "code", "code/main.c", "sizes", "sizes/1000", "sizes/1001"}


def on_another_device(source: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Say of what is called so, and of all below, that it is on a device of another number."""
    real = os.lstat
    elsewhere = [os.fsencode(source / name) for name in names]

    def lstat(path: bytes, *arguments: object, **named: object) -> os.stat_result:
        found = real(path, *arguments, **named)  # type: ignore[arg-type]
        if not any((os.fsencode(path) + b"/").startswith(place + b"/") for place in elsewhere):
            return found
        values = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:10]), values)

    monkeypatch.setattr(os, "lstat", lstat)


def test_a_path_that_was_given_is_left_out_too_if_a_pattern_matches_it(vault: VaultForTests, source: Path) -> None:
    vault.backup(source / "code", source / "sizes", selection=Selection(excludes=("code",)))
    assert kept(vault, source) == {"", "sizes", "sizes/1000", "sizes/1001"}
    with pytest.raises(NothingLeft, match="or all of it is left out"):
        vault.backup(source / "code", selection=Selection(excludes=(str(source),)))
    assert len(vault.objects(ObjectKind.SNAPSHOT)) == 1


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        (Selection(excludes=("a[",)), "the pattern 'a\\['"),
        (Selection(excludes=("ok", "!")), "the pattern ''"),
        (Selection(iexcludes=("/",)), "the pattern '/'"),
        (Selection(expressions=("(",)), r"the regular expression '\(' is not right: missing \)"),
        (Selection(expressions=(r"(a)\1",)), "is not right: invalid escape sequence"),
        (Selection(expressions=("\udcff",)), "is not right"),
    ],
)
def test_a_rule_that_is_none_is_refused(selection: Selection, told: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=told):
        Selector(selection)
    assert capfd.readouterr() == ("", "")


def test_without_rules_nothing_is_left_out(source: Path) -> None:
    selector = Selector(EVERYTHING)
    assert not selector.leaves_out_path(os.fsencode(source))
    assert not selector.leaves_out(os.fsencode(source), source.lstat())
