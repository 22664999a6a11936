"""Every rule taken away in turn: what the suite must find (`make planted-faults`).

A fault replaces functions of the nodes' code in the test's process, or is a rule of the clients that the model's
clients then break (`World.faults`). Product code knows nothing of it.

"Looks first" stands for a check that is not in the transaction of its effect: a client looks, others go on, and what it
then does is answered by what it saw (`Ahead`). So races of transactions become orders of steps, and can be searched.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.names import ObjectKind
from domain.sessions import Purpose
from domain.tokens import VaultClaims
from services.storage.removal import retention
from services.storage.sessions import entries
from services.storage.store import buckets, objects, protection, reaping
from services.storage.store import puts as put_rows
from services.storage.store import sessions as session_rows
from services.storage.tests.model.ahead import Ahead
from services.storage.transfer import puts
from services.storage.volumes.disks import Disks

_EVER = 1 << 62


@dataclass(frozen=True)
class Fault:
    """`rule` of docs/sessions.md; `case` is searched for it, and `client` is a rule that the model's clients break.

    Without a case it is one of transactions, and found where calls meet (test_transactions.py). `trace` only says where
    the search is to begin, which saves hours.
    """

    rule: int
    name: str
    case: str = ""
    patch: Callable[[pytest.MonkeyPatch, Ahead], None] = lambda _patch, _ahead: None
    client: str = ""
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"rule {self.rule}: {self.name}"


def _numbers_from_a_sequence(patch: pytest.MonkeyPatch, ahead: Ahead) -> None:
    locked = buckets.lock

    async def lock(unit: Any, bucket: UUID, patience_seconds: float = 0) -> buckets.BucketState | None:
        state = await locked(unit, bucket, patience_seconds)
        return replace(state, seq=ahead.number() - 1) if state else None

    patch.setattr(buckets, "lock", lock)
    ahead.draws = True


def _looks_first(*functions: tuple[Any, str]) -> Callable[[pytest.MonkeyPatch, Ahead], None]:
    def plant(patch: pytest.MonkeyPatch, ahead: Ahead) -> None:
        for module, name in functions:
            patch.setattr(module, name, ahead.answered(getattr(module, name)))
        ahead.looks = True

    return plant


def _pins_without_asking(patch: pytest.MonkeyPatch, ahead: Ahead) -> None:
    """Looks whether the parent is live, and pins it later whatever it has become."""
    is_live = ahead.answered(session_rows.pin)
    blind = session_rows._PIN.replace(" and o.state = 'live'", " on conflict do nothing")

    async def pin(unit: Any, session: UUID, bucket: UUID, snapshot: bytes) -> bool:
        found = await is_live(unit, session, bucket, snapshot)
        await unit.execute(blind, (session, bucket, snapshot))
        return bool(found)

    patch.setattr(session_rows, "pin", pin)
    ahead.looks = True


def _answers(module: Any, name: str, answer: Any) -> Callable[[pytest.MonkeyPatch, Ahead], None]:
    async def answered(*_args: Any, **_named: Any) -> Any:
        return answer

    return lambda patch, _ahead: patch.setattr(module, name, answered)


def _lists(condemned_after: int) -> Callable[[pytest.MonkeyPatch, Ahead], None]:
    def plant(patch: pytest.MonkeyPatch, _ahead: Ahead) -> None:
        page = objects.page

        async def all_alike(unit: Any, bucket: UUID, kind: ObjectKind, own: int, **where: Any) -> Any:
            is_retention = own > _EVER
            return await page(unit, bucket, kind, own if is_retention else condemned_after, **where)

        patch.setattr(objects, "page", all_alike)

    return plant


def _takes_at_once(patch: pytest.MonkeyPatch, _ahead: Ahead) -> None:
    async def all_buckets(unit: Any, *_: Any) -> list[UUID]:
        return [row[0] for row in await (await unit.execute("select id from buckets")).fetchall()]

    _answers(reaping, "horizon", None)(patch, _ahead)
    patch.setattr(reaping, "waiting_buckets", all_buckets)


def _statement(module: Any, name: str, old: str, new: str) -> Callable[[pytest.MonkeyPatch, Ahead], None]:
    def plant(patch: pytest.MonkeyPatch, _ahead: Ahead) -> None:
        statement = getattr(module, name)
        assert old in statement
        patch.setattr(module, name, statement.replace(old, new))

    return plant


def _adopts_outside_of_sessions(patch: pytest.MonkeyPatch, _ahead: Ahead) -> None:
    """What an adoption enters has no user, and nobody asks for one."""
    require, insert = entries._require_users, objects.insert

    async def require_users(unit: Any, bucket: UUID, row: session_rows.SessionRow, *named: Any) -> None:
        if row.purpose != Purpose.ADOPT:
            await require(unit, bucket, row, *named)

    async def unused(unit: Any, bucket: Any, session: UUID, *entry: Any) -> int:
        number = await insert(unit, bucket, session, *entry)
        await unit.execute(
            "delete from object_users where object_id = %s"
            " and session_id in (select id from sessions where purpose = 'adopt')",
            (number,),
        )
        return number

    patch.setattr(entries, "_require_users", require_users)
    patch.setattr(objects, "insert", unused)


def _knows_no_mark(patch: pytest.MonkeyPatch, _ahead: Ahead) -> None:
    in_the_way = objects.in_the_way

    async def only_open(unit: Any, bucket: UUID, kind: ObjectKind, names: Any, **given: Any) -> Any:
        return await in_the_way(unit, bucket, kind, names, **{**given, "mark_seq": _EVER})

    patch.setattr(objects, "in_the_way", only_open)


def _revives_what_is_being_removed(patch: pytest.MonkeyPatch, ahead: Ahead) -> None:
    ask = put_rows.standing

    async def standing(*asked: Any) -> put_rows.Standing | None:
        found = await ask(*asked)
        if found is None or found.found is None or found.found.state != "deleting":
            return found
        return replace(found, found=replace(found.found, state="condemned"))

    patch.setattr(put_rows, "standing", standing)
    _statement(objects, "_USE", "state = 'condemned'", "state <> 'live'")(patch, ahead)


def _sees_no_adoption(patch: pytest.MonkeyPatch, ahead: Ahead) -> None:
    for statement in ("_WAITING", "_HORIZON_OF"):
        _statement(reaping, statement, "when 'adopt' then 0", "when '' then 0")(patch, ahead)


def _awaits_no_copy(patch: pytest.MonkeyPatch, ahead: Ahead) -> None:
    for statement in ("_WAITING", "_HORIZON_OF"):
        _statement(reaping, statement, reaping.FIRST_LACKED, "null::bigint")(patch, ahead)


def _marks_as_often_as_asked(patch: pytest.MonkeyPatch, _ahead: Ahead) -> None:
    draw = retention.mark

    async def mark(db: Any, claims: VaultClaims, session: UUID, mark_id: UUID) -> int:
        async with db.worker() as unit:
            await unit.execute("update sessions set mark_seq = null, mark_id = null where id = %s", (session,))
        return await draw(db, claims, session, mark_id)

    patch.setattr(retention, "mark", mark)


def _forgets_first(patch: pytest.MonkeyPatch, _ahead: Ahead) -> None:
    patch.setattr(Disks, "remove", lambda _disks, _bucket, names: set(names))


def _takes_no_lock(patch: pytest.MonkeyPatch, _ahead: Ahead) -> None:
    async def lock(unit: Any, bucket: UUID, patience_seconds: float = 0) -> buckets.BucketState | None:  # noqa: ARG001 - as `lock` has it
        return await buckets.peek(unit, bucket)

    patch.setattr(buckets, "lock", lock)


def _locks_as_it_checks(patch: pytest.MonkeyPatch, ahead: Ahead) -> None:
    """The statement that asks for users takes the lock as well: its snapshot is older than the lock."""

    async def peek(unit: Any, claims: VaultClaims, session: UUID) -> Any:  # noqa: ARG001 - as `lock` has it
        return await buckets.peek(unit, claims.bucket)

    patch.setattr(retention, "lock", peek)
    locks = "with held as materialized (select id from buckets where id = %(bucket)s for update) select"
    _statement(objects, "_IN_THE_WAY", "\nselect", locks)(patch, ahead)
    _statement(objects, "_IN_THE_WAY", "from objects o", "from held cross join objects o")(patch, ahead)


def _asks_who_is_silent_before_the_lock(patch: pytest.MonkeyPatch, _ahead: Ahead) -> None:
    silent: list[UUID] = []
    find = session_rows.buckets_of_silent

    async def find_them(unit: Any, silence: timedelta, age: timedelta) -> list[UUID]:
        cursor = await unit.execute(
            "select id from sessions where ended_seq is null and last_beat < now() - %s", (silence,)
        )
        silent[:] = [row[0] for row in await cursor.fetchall()]
        return await find(unit, silence, age)

    async def end_them(unit: Any, _bucket: UUID, seq: int, *_: timedelta) -> list[UUID]:
        await unit.execute("update sessions set ended_seq = %s, ended = now() where id = any(%s)", (seq, silent))
        await unit.execute("delete from pins where session_id = any(%s)", (silent,))
        return silent

    patch.setattr(session_rows, "buckets_of_silent", find_them)
    patch.setattr(session_rows, "end_silent", end_them)


def _asks_for_the_horizon_before_the_lock(patch: pytest.MonkeyPatch, _ahead: Ahead) -> None:
    horizons: dict[UUID, int | None] = {}
    ask, find = reaping.horizon, reaping.waiting_buckets

    async def find_them(unit: Any, basket: timedelta, limit: int) -> list[UUID]:
        found = await find(unit, basket, limit)
        horizons.update([(bucket, await ask(unit, bucket, basket)) for bucket in found])
        return found

    async def remember(_unit: Any, bucket: UUID, _basket: timedelta) -> int | None:
        return horizons[bucket]

    patch.setattr(reaping, "waiting_buckets", find_them)
    patch.setattr(reaping, "horizon", remember)


def _packs_first(patch: pytest.MonkeyPatch, _ahead: Ahead) -> None:
    patch.setattr(reaping, "ORDER", tuple(reversed(reaping.ORDER)))


_R = ("R",)
_BACKS_UP = ("B", "B:puts", "B", "B:puts an index", "B:commits", "B:ends")

FAULTS = [
    Fault(1, "seq is drawn from a SEQUENCE", "restore", _numbers_from_a_sequence, trace=("R", "?R", "X", "R")),
    Fault(1, "no call locks the bucket", patch=_takes_no_lock),
    Fault(1, "a condemnation locks the bucket in the statement that checks", patch=_locks_as_it_checks),
    Fault(
        1,
        "reserve looks first",
        "two packs",
        _looks_first((objects, "reservable")),
        trace=(*_R * 11, "B", "?B:reserves", "node", "B:reserves", "B:puts an index"),
    ),
    Fault(
        1,
        "condemn looks first",
        "two packs",
        _looks_first((objects, "in_the_way")),
        trace=(*_R * 10, "?R", "B", "B:reserves", "R", "B:puts an index"),
    ),
    Fault(
        1,
        "remove looks first",
        "pinned",
        _looks_first((session_rows, "is_pinned")),
        trace=("R", "?R:removes", "B", *_R * 10, "B:commits"),
    ),
    Fault(
        1,
        "an opening looks at its parent first",
        "pinned",
        _pins_without_asking,
        trace=("R", "?B", "R", "B", *_R * 9, "B:commits"),
    ),
    Fault(1, "who is silent is asked before the lock", patch=_asks_who_is_silent_before_the_lock),
    Fault(
        2,
        "a commit looks at its session first",
        "silent",
        _looks_first((put_rows, "standing")),
        trace=("B", "B:reserves", "B:puts an index", "?B:commits", "node:the silent", *_R * 11, "B:commits"),
    ),
    Fault(2, "a condemnation looks at its session first", "two retentions", _looks_first((session_rows, "get"))),
    Fault(
        3,
        "lists hide all that is condemned",
        "restore",
        _lists(_EVER),
        trace=("R", "X", *_R * 8, "X:reads snapshots/573d02", *"XXXX"),
    ),
    Fault(3, "lists show all that is condemned", "restore", _lists(-1), trace=(*_R * 11, *"XXXXXXX")),
    Fault(
        4,
        "what a parent covers carries over",
        "pinned again",
        client="parent carries over",
        trace=("B", "B:ends", *_R * 9, "B", "B", "B:commits"),
    ),
    Fault(4, "a plan carries over", "resume", client="plan carries over"),
    Fault(
        5,
        "no pin is asked for",
        "pinned",
        _answers(session_rows, "is_pinned", answer=False),
        trace=("R", "B", *_R * 10, "B:commits"),
    ),
    Fault(5, "whole packs of the parent need no reservation", "mixed pack", client="per blob"),
    Fault(
        6,
        "a put of a name that exists does nothing",
        "resume",
        _answers(entries, "put_again", None),
        trace=("B", "B:puts", "B", "B:ends", *_R * 9, "B", "B:puts", "B:puts an index"),
    ),
    Fault(
        6,
        "using revives nothing",
        "two packs",
        _statement(objects, "_USE", "state = 'condemned'", "state = ''"),
        trace=(*_R * 11, "B", "B:reserves", "B:puts an index"),
    ),
    Fault(
        6,
        "what is being removed can be reserved",
        "two packs",
        _statement(objects, "_RESERVABLE", "'deleting'", "''"),
        trace=(*_R * 11, "B", "node", "B:reserves", "B:puts an index"),
    ),
    Fault(6, "what is being removed lives again by a put", "resume", _revives_what_is_being_removed),
    Fault(
        7,
        "an index file lists what its session does not use",
        "resume",
        _answers(entries, "_require_users", None),
        trace=("B", "B:puts", "B", "B:puts an index", "B:ends", *_R * 9, "B", "B:puts its old"),
    ),
    Fault(
        7,
        "a commit needs no index file",
        "resume",
        _answers(entries, "_require_committable", None),
        client="snapshot before index",
        trace=("B", "B:puts", "B", "B:commits"),
    ),
    Fault(
        8,
        "an adoption makes no user",
        "adoption",
        _adopts_outside_of_sessions,
        trace=("B", "B:puts", "B", *_R * 6, "B:puts an index", "B:commits", *_R * 3),
    ),
    Fault(8, "a snapshot is brought back without its packs", "revival", client="revives unreserved"),
    Fault(8, "an operator brings back beside a retention", "operator", _answers(protection, "remover", None)),
    Fault(
        9,
        "a mark does not count",
        "two packs",
        _knows_no_mark,
        trace=(*_R * 5, "B", "B:reserves", "B:puts an index", "B:commits", "B:ends", *_R * 6),
    ),
    Fault(9, "a mark is drawn again", "two packs", _marks_as_often_as_asked, client="marks again"),
    Fault(
        9,
        "the index is read before the mark",
        "resume",
        client="index before mark",
        trace=(*_R * 2, *_BACKS_UP, *_R * 3),
    ),
    Fault(
        9,
        "snapshots are listed before the mark",
        "resume",
        client="snapshots before mark",
        trace=(*_R * 2, *_BACKS_UP, *_R * 8),
    ),
    Fault(
        9,
        "two retentions are open at once",
        "two retentions",
        _answers(session_rows, "retention_is_open", answer=False),
    ),
    Fault(
        10,
        "condemning asks for no user",
        "two packs",
        _answers(objects, "in_the_way", []),
        trace=(*_R * 5, "B", "B:reserves", *_R * 6, "B:puts an index"),
    ),
    Fault(10, "packs of a refused index file go", "locked index", client="refused index"),
    Fault(11, "the reaper waits for nobody", "restore", _takes_at_once, trace=("R", "X", "R", "node", "node")),
    Fault(11, "the reaper waits for no adoption", "revival", _sees_no_adoption),
    Fault(11, "the reaper waits for no copy", "a home is down", _awaits_no_copy),
    Fault(11, "the reaper asks for its horizon before the lock", patch=_asks_for_the_horizon_before_the_lock),
    Fault(11, "packs are removed before index files", "two packs", _packs_first, trace=(*_R * 11, "node", "node")),
    Fault(11, "a row is forgotten before its files are removed", "two packs", _forgets_first),
    Fault(
        12,
        "a put is entered before its copies are durable",
        "resume",
        _answers(puts.Spread, "stage", None),
        trace=(*_BACKS_UP,),
    ),
    Fault(12, "packs are condemned before index files", "two packs", client="packs before index"),
    Fault(12, "the old index is condemned before the new one is put", "two packs", client="condemns first"),
    Fault(
        12,
        "an index file goes early of which a pack stays",
        "two packs",
        client="early index",
        trace=_R * 6,
    ),
    Fault(
        12,
        "a pack goes early that an index file lists",
        "two packs",
        client="early packs",
        trace=_R * 6,
    ),
]
