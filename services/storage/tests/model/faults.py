"""Every rule taken away in turn: what the suite must find (`make planted-faults`).

A fault replaces functions of the nodes' code in the test's process, or is a rule of the clients that the model's
clients then break (`World.faults`). Product code knows nothing of it.

"Looks first" stands for a check that is not in the transaction of its effect: a client looks, others go on, and what it
then does is answered by what it saw (`Ahead`). So races of transactions become orders of steps, and can be searched.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest

from domain.names import ObjectKind
from domain.sessions import Purpose
from services.storage import puts, sessions
from services.storage.store import buckets, objects, reaping
from services.storage.store import sessions as session_rows
from services.storage.tests.model.ahead import Ahead

_EVER = 1 << 62


@dataclass(frozen=True)
class Fault:
    """`rule` of docs/sessions.md; `case` is searched for it, and `client` is a rule that the model's clients break.

    `trace` only says where the search is to begin ("?B": B looks, or draws a number, before it makes the step).
    """

    rule: int
    name: str
    case: str
    patch: Callable[[pytest.MonkeyPatch, Ahead], None] = lambda _patch, _ahead: None
    client: str = ""
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"rule {self.rule}: {self.name}"


def _numbers_from_a_sequence(patch: pytest.MonkeyPatch, ahead: Ahead) -> None:
    locked = buckets.lock

    async def lock(unit: Any, bucket: UUID) -> buckets.BucketState | None:
        state = await locked(unit, bucket)
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
    require, insert = sessions._require_users, objects.insert

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

    patch.setattr(sessions, "_require_users", require_users)
    patch.setattr(objects, "insert", unused)


def _knows_no_mark(patch: pytest.MonkeyPatch, _ahead: Ahead) -> None:
    in_the_way = objects.in_the_way

    async def only_open(unit: Any, bucket: UUID, kind: ObjectKind, names: Any, _mark: int) -> Any:
        return await in_the_way(unit, bucket, kind, names, _EVER)

    patch.setattr(objects, "in_the_way", only_open)


def _packs_first(patch: pytest.MonkeyPatch, _ahead: Ahead) -> None:
    patch.setattr(reaping, "ORDER", tuple(reversed(reaping.ORDER)))


_R = ("R",)
_BACKS_UP = ("B", "B:puts", "B", "B:puts an index", "B:commits", "B:ends")

FAULTS = [
    Fault(1, "seq is drawn from a SEQUENCE", "restore", _numbers_from_a_sequence, trace=("R", "?R", "X", "R")),
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
    Fault(
        2,
        "the session is looked at first",
        "silent",
        _looks_first((session_rows, "get")),
        trace=("B", "B:reserves", "B:puts an index", "?B:commits", "node:the silent", *_R * 11, "B:commits"),
    ),
    Fault(
        3,
        "lists hide all that is condemned",
        "restore",
        _lists(_EVER),
        trace=("R", "X", *_R * 8, "X:reads snapshots/573d02", *"XXXX"),
    ),
    Fault(3, "lists show all that is condemned", "restore", _lists(-1), trace=(*_R * 11, *"XXXXXXX")),
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
        _answers(sessions, "put_again", None),
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
    Fault(
        7,
        "an index file lists what its session does not use",
        "resume",
        _answers(sessions, "_require_users", None),
        trace=("B", "B:puts", "B", "B:puts an index", "B:ends", *_R * 9, "B", "B:puts its old"),
    ),
    Fault(
        7,
        "a commit needs no index file",
        "resume",
        _answers(sessions, "_require_committable", None),
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
    Fault(
        9,
        "a mark does not count",
        "two packs",
        _knows_no_mark,
        trace=(*_R * 5, "B", "B:reserves", "B:puts an index", "B:commits", "B:ends", *_R * 6),
    ),
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
        10,
        "condemning asks for no user",
        "two packs",
        _answers(objects, "in_the_way", []),
        trace=(*_R * 5, "B", "B:reserves", *_R * 6, "B:puts an index"),
    ),
    Fault(10, "packs of a refused index file go", "locked index", client="refused index"),
    Fault(11, "the reaper waits for nobody", "restore", _takes_at_once, trace=("R", "X", "R", "node", "node")),
    Fault(11, "packs are removed before index files", "two packs", _packs_first, trace=(*_R * 11, "node", "node")),
    Fault(
        12,
        "a put is entered before its copies are durable",
        "resume",
        _answers(puts.Spread, "stage", None),
        trace=(*_BACKS_UP,),
    ),
    Fault(12, "packs are condemned before index files", "two packs", client="packs before index"),
]
