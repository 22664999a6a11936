"""The whole catalogue of a database of tests: looked at, put back as it was, emptied.

Kept true: two looks are the same text when the same was done in the same order; ids and times do not count.
"""

from typing import Any

import psycopg
from psycopg import sql

_TABLES = ("buckets", "homes", "objects", "sessions", "object_users", "pins", "missing_copies", "removals")
CLEAR = sql.SQL("; ").join([sql.SQL("delete from {}").format(sql.Identifier(table)) for table in reversed(_TABLES)])
_OBJECTS = "(select o.kind || '/' || encode(o.sha256, 'hex') from objects o where o.id = object_id)"
_CATALOGUE = f"""
select json_build_array(
    (select json_agg(json_build_array(seq, objects, bytes) order by id) from buckets),
    (select json_agg(json_build_array(kind, encode(sha256, 'hex'), state, created_seq, condemned_seq)
                     order by kind, sha256) from objects),
    (select json_agg(json_build_array(id, opened_seq, ended_seq, mark_seq, pack_seq, index_seq, swept) order by id)
     from sessions),
    (select json_agg(json_build_array({_OBJECTS}, session_id) order by {_OBJECTS}, session_id) from object_users),
    (select json_agg(json_build_array({_OBJECTS}, session_id) order by session_id) from pins),
    (select json_agg(json_build_array({_OBJECTS}, node_id) order by {_OBJECTS}, node_id) from missing_copies),
    (select json_agg(json_build_array({_OBJECTS}, node_id) order by {_OBJECTS}, node_id) from removals))::text
"""


async def clear(watch: psycopg.AsyncConnection[Any]) -> None:
    """Forget every bucket; the nodes stay."""
    await watch.execute(CLEAR)


class Catalogue:
    """Looks at all of it, and puts it back as it was."""

    def __init__(self, watch: psycopg.AsyncConnection[Any]) -> None:
        self._watch = watch
        self._back = CLEAR

    async def keep(self) -> None:
        steps: list[sql.Composable] = [CLEAR]
        for table in _TABLES:
            name = sql.Identifier(table)
            cursor = await self._watch.execute(sql.SQL("select json_agg(t)::text from {} t").format(name))
            row = await cursor.fetchone()
            if row and row[0]:
                insert = "insert into {0} overriding system value select * from json_populate_recordset(null::{0}, {1})"
                steps.append(sql.SQL(insert).format(name, sql.Literal(row[0])))
        self._back = sql.SQL("; ").join(steps)

    async def put_back(self) -> None:
        await self._watch.execute(self._back)

    async def look(self) -> str:
        cursor = await self._watch.execute(_CATALOGUE)
        row = await cursor.fetchone()
        return str(row[0]) if row else ""
