"""Backups and restores on a store that fails, delays, cuts and repeats calls, and on one that goes wrong for good."""

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import opendal
import pytest

from client.cli.tests.on_s3 import KEY, SECRET, add, restic
from client.cli.tests.terminal import Terminal
from client.restore.compare import differences
from client.stores.cloud import CloudStore, Location
from clouds.calls import Clock
from clouds.testing.clock import a_jumping_clock
from clouds.testing.faults import FAULTS, OneInTen, loses_the_answer, shortens_the_answer
from clouds.testing.proxy import Answer, Proxy, Request, Treatment, a_proxy

SEED = 20  # of the order of faults; which calls meet them is for threads to say
ROUNDS = 4
MOST_ROUNDS = 20
PREFIX = "vault"
_WITHOUT_A_HASH = ("config", "oort-vault")


@pytest.fixture
def proxy(s3_bucket: str) -> Iterator[Proxy]:
    with a_proxy(urlsplit(s3_bucket).netloc) as proxy:
        yield proxy


@pytest.fixture
def clock() -> Clock:
    """On which waiting takes no time."""
    return a_jumping_clock()


@pytest.fixture
def through(proxy: Proxy, s3_bucket: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the vault is, by way of the proxy."""
    monkeypatch.setattr("client.stores.cloud.CloudStore", partial(CloudStore, clock=clock))
    return f"http://{proxy.address}{urlsplit(s3_bucket).path}/{PREFIX}"


@dataclass
class Onlooker:
    """Somebody who looks at the store itself, and tells what is not whole."""

    operator: "opendal.Operator"
    verified: set[tuple[str, str | None]] = field(default_factory=set)
    halves: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> None:
        with self.lock:
            self._look()

    def _look(self) -> None:
        for entry in self.operator.list("/", recursive=True):
            seen = (entry.path, entry.metadata.etag)
            if entry.path.endswith("/") or entry.path in _WITHOUT_A_HASH or seen in self.verified:
                continue
            try:
                body = self.operator.read(entry.path)
            except opendal.exceptions.NotFound:
                continue  # a lock that was removed meanwhile
            self.verified.add(seen)
            if sha256(bytes(body)).hexdigest() != entry.path.rpartition("/")[2]:
                self.halves.append(entry.path)


@pytest.fixture
def onlooker(s3_bucket: str) -> Onlooker:
    settings = Location.of_s3(f"{s3_bucket}/{PREFIX}").opened_by(KEY, SECRET).settings
    return Onlooker(opendal.Operator("s3", **settings).layer(opendal.layers.RetryLayer()))


@pytest.mark.needs("restic")
def test_one_fault_in_ten_calls_leaves_backups_and_restores_whole(
    terminal: Terminal, proxy: Proxy, through: str, onlooker: Onlooker, source: Path
) -> None:
    faults = OneInTen(SEED)

    def looked_at(request: Request) -> Answer | None:
        answer = faults(request)
        if request.method in ("PUT", "DELETE"):
            onlooker.look()
        return answer

    proxy.treatment = looked_at
    name, target = terminal.home.parent.name, terminal.home.parent / "target"
    assert terminal.log_in()[0] == 0
    done = [add(terminal, name, through)]
    for number in range(MOST_ROUNDS):
        (source / f"noise{number}").write_bytes(os.urandom(3 << 20))
        done.append(terminal("backup", str(source), "--vault", name))
        if number >= ROUNDS and set(faults.met) == set(FAULTS):
            break
    assert set(faults.met) == set(FAULTS)
    done.append(terminal("restore", "latest", "--vault", name, "--target", str(target)))
    done.append(terminal("check", "--read-data", "--vault", name))
    assert terminal("retention", "--keep-last", "2", "--prune", "--yes", "--vault", name)[0] == 0
    done.append(terminal("check", "--read-data", "--vault", name))
    assert [(code, errors) for code, _, errors in done] == [(0, "")] * len(done)
    assert not list(differences(source, target / source.relative_to("/")))
    assert len(faults.met) >= len(proxy.asked) // 10
    onlooker.look()
    assert onlooker.halves == []
    proxy.treatment = Request.passed_on
    straight = through.replace(proxy.address, proxy.server)
    password = terminal.json("vault", "recovery", name)["password"]
    assert "no errors were found" in restic(straight, password, "check", "--read-data")


def always(status: int, code: str) -> Treatment:
    return lambda _: Answer.refusal(status, code)


def full(request: Request) -> Answer:
    return Answer.refusal(507, "InsufficientStorage") if request.method == "PUT" else request.passed_on()


def over_its_quota(request: Request) -> Answer:
    return Answer.refusal(403, "QuotaExceeded") if request.method == "PUT" else request.passed_on()


def forgets(request: Request) -> Answer:
    return Answer.of(200) if request.method == "PUT" else request.passed_on()


def sends_too_little(request: Request) -> Answer:
    return shortens_the_answer(request) if request.method == "GET" else request.passed_on()


@dataclass
class OldLists:
    """Each list is that of the first time when it was asked for, which was before all else."""

    lists: dict[str, Answer] = field(default_factory=dict)

    def __call__(self, request: Request) -> Answer:
        if not request.is_of_a_list:
            return request.passed_on()
        if request.query not in self.lists:
            self.lists[request.query] = request.passed_on()
        return self.lists[request.query]


@dataclass
class ListsWithoutTheNewest:
    """Lists of snapshots have those that were there before, and what came later never; removals they show."""

    known: frozenset[str]

    def __call__(self, request: Request) -> Answer:
        answer = request.passed_on()
        if not request.is_of_a_list or b"snapshots/" not in answer.body:
            return answer
        body = re.sub(rb"<Contents>.*?</Contents>", self._as_known, answer.body, flags=re.DOTALL)
        return replace(answer, body=body, claimed=len(body))

    def _as_known(self, entry: re.Match[bytes]) -> bytes:
        return entry[0] if any(known.encode() in entry[0] for known in self.known) else b""


@pytest.fixture
def with_a_backup(terminal: Terminal, through: str, tmp_path: Path, source: Path) -> str:
    """A vault with a backup in it, by its name; the next one has more to store."""
    assert terminal.log_in()[0] == 0
    assert add(terminal, tmp_path.name, through)[0] == 0
    assert terminal("backup", str(source), "--vault", tmp_path.name)[0] == 0
    (source / "noise").write_bytes(os.urandom(100_000))
    return tmp_path.name


@dataclass
class FromTheFirstPack:
    """All goes well until there is a pack to be stored."""

    treatment: Treatment
    begun: bool = False

    def __call__(self, request: Request) -> Answer | None:
        self.begun = self.begun or (request.method == "PUT" and "/data/" in request.path)
        return self.treatment(request) if self.begun else request.passed_on()


@pytest.mark.parametrize(
    "wrong",
    [
        (always(403, "SignatureDoesNotMatch"), 5, "does not know this access key, or the secret does not belong to it"),
        (always(301, "PermanentRedirect"), 5, "in another region: give that one"),
        (always(400, "AuthorizationHeaderMalformed"), 5, "in another region: give that one"),
        (always(403, "RequestTimeTooSkewed"), 5, "clock is too far from the store's: set it right"),
        (always(503, "SlowDown"), 5, "try again later"),
        (always(500, "InternalError"), 5, "try again later"),
        (loses_the_answer, 5, "check the network"),
        (sends_too_little, 5, "try again later"),
        (OldLists(), 5, "its list lacks locks/"),
        (forgets, 5, "the store loses what it is given"),
        (full, 7, "Free space there, or raise the quota"),
        (FromTheFirstPack(always(403, "InvalidAccessKeyId")), 5, "does not know this access key"),
        (FromTheFirstPack(always(429, "")), 5, "try again later"),
        (FromTheFirstPack(loses_the_answer), 5, "check the network"),
        (FromTheFirstPack(forgets), 5, "the store loses what it is given"),
        (FromTheFirstPack(full), 7, "Free space there, or raise the quota"),
        (FromTheFirstPack(over_its_quota), 7, "Free space there, or raise the quota"),
    ],
)
def test_a_store_that_goes_wrong_for_good_is_one_line_beside_that_it_is_waited_for_and_its_vault_stays_whole(
    terminal: Terminal, proxy: Proxy, clock: Clock, with_a_backup: str, wrong: tuple[Treatment, int, str]
) -> None:
    source = terminal.home.parent / "source"
    proxy.treatment, expected, said = wrong
    begun = clock.monotonic()
    code, _, errors = terminal("backup", str(source), "--vault", with_a_backup)
    waiting, failed = errors.splitlines()[:-1], errors.splitlines()[-1]
    assert (code, len(waiting) < 2) == (expected, True), errors
    assert all(line.endswith("; it is asked again for 180 seconds") for line in waiting), errors
    assert said in failed
    assert SECRET not in errors
    assert clock.monotonic() - begun < 240, "what follows a call that was given up is given up soon"
    proxy.treatment = Request.passed_on
    assert terminal("check", "--read-data", "--vault", with_a_backup)[0] == 0
    assert terminal("backup", str(source), "--vault", with_a_backup)[0] == 0


def test_a_pack_of_which_a_store_sends_too_little_for_good_costs_what_lies_in_it_and_is_not_lost(
    terminal: Terminal, proxy: Proxy, with_a_backup: str, tmp_path: Path, source: Path
) -> None:
    short = with_a_short_pack(terminal, proxy, with_a_backup, source)
    target = tmp_path / "target"
    code, _, errors = terminal("restore", "latest", "--target", str(target), "--vault", with_a_backup)
    assert code == 8, errors
    assert str(source / "noise") in errors
    assert "that it has: try again later" in errors
    assert sorted(path.name for path in target.rglob("*") if path.is_file()) == ["a.txt", "b.md", "link"]
    code, _, errors = terminal("check", "--read-data", "--vault", with_a_backup)
    assert (code, short.rpartition("/")[2] in errors) == (8, True), errors
    proxy.treatment = Request.passed_on
    again = tmp_path / "again"
    code, _, errors = terminal("restore", "latest", "--target", str(again), "--vault", with_a_backup)
    assert (code, errors) == (0, "")


@pytest.mark.parametrize("command", [("repair", "--yes"), ("repair", "--forget", "--yes"), ("rebuild-index",)])
def test_a_pack_that_a_store_has_and_sends_short_is_let_go_of_by_no_repair(
    terminal: Terminal, proxy: Proxy, with_a_backup: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    source = tmp_path / "source"
    with_a_short_pack(terminal, proxy, with_a_backup, source)
    assert terminal("restore", "latest", "--target", str(tmp_path / "noted"), "--vault", with_a_backup)[0] == 8
    code, _, errors = terminal(*command, "--vault", with_a_backup)
    assert (code, "try again later" in errors) == (5, True), errors
    proxy.treatment = Request.passed_on
    target = tmp_path / "target"
    assert terminal("restore", "latest", "--target", str(target), "--vault", with_a_backup)[0] == 0
    assert not list(differences(source, target / source.relative_to("/")))
    assert terminal("check", "--read-data", "--vault", with_a_backup)[0] == 0


def with_a_short_pack(terminal: Terminal, proxy: Proxy, vault: str, source: Path) -> str:
    """A second backup, whose pack of what was added alone is sent short from then on; answers its path."""
    proxy.asked.clear()
    assert terminal("backup", str(source), "--vault", vault)[0] == 0
    stored = [request for request in proxy.asked if request.method == "PUT" and "/data/" in request.path]
    short = max(stored, key=lambda request: len(request.body)).path
    proxy.treatment = lambda request: (sends_too_little if request.path == short else Request.passed_on)(request)
    return short


@pytest.mark.parametrize("at_once", [True, False])
def test_a_snapshot_that_lists_do_not_show_yet_is_not_taken_for_one_that_nobody_has(
    terminal: Terminal, proxy: Proxy, with_a_backup: str, tmp_path: Path, *, at_once: bool
) -> None:
    source = tmp_path / "source"
    assert terminal("backup", str(source), "--vault", with_a_backup)[0] == 0
    if at_once:
        assert terminal("vault", "retention", with_a_backup, "--keep-last", "1")[0] == 0
    known = frozenset(one["id"] for one in terminal.json("snapshots", "--vault", with_a_backup))
    assert len(known) == 2
    proxy.treatment = ListsWithoutTheNewest(known)
    (source / "precious").write_bytes(os.urandom(300_000))
    retention = ("--auto-retention", "immediate") if at_once else ()
    done = terminal("backup", str(source), "--vault", with_a_backup, *retention)
    if not at_once:
        assert done[0] == 0
        done = terminal("retention", "--keep-last", "1", "--prune", "--yes", "--vault", with_a_backup)
    assert done[0] == 5
    assert "which this device stored and which is there: try again later" in done[2]
    proxy.treatment = Request.passed_on
    assert terminal("check", "--read-data", "--vault", with_a_backup)[0] == 0
    target = tmp_path / "target"
    assert terminal("restore", "latest", "--vault", with_a_backup, "--target", str(target))[0] == 0
    assert not list(differences(source, target / source.relative_to("/")))
    assert terminal("retention", "--keep-last", "1", "--prune", "--yes", "--vault", with_a_backup)[0] == 0
    assert terminal("check", "--read-data", "--vault", with_a_backup)[0] == 0
