"""`oort-license.db`: the leases of one instance and the highest time that it has seen.

Kept true: the time kept here never falls, except when the licence server, whose answers are fresh and signed, says so;
the file belongs to one process at a time.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from services.common.errors import StartError

_TABLES = """
create table if not exists leases (id integer primary key, taken text not null, token text not null);
create table if not exists clock (id integer primary key check (id = 1), highest text not null);
"""


class LeaseLedger:
    """The open file. Close it at the end."""

    def __init__(self, path: Path) -> None:
        """Open or create it, readable by its owner only.

        Raises StartError when it is damaged, held by another process, or in no place that can be written.
        """
        self._path = path
        with self._one_line_for_faults():
            try:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            except OSError as error:
                raise StartError(f"cannot write the lease file {path}: {error.strerror}") from error
            self._connection = sqlite3.connect(path, timeout=2, isolation_level=None)
            try:
                # Exclusive: two processes under one lease would each believe in their own. WAL: the time is written
                # every minute, and a commit must not wait for a busy disk.
                self._connection.execute("pragma locking_mode = exclusive")
                self._connection.execute("pragma journal_mode = wal")
                self._connection.execute("pragma synchronous = normal")
                self._connection.executescript(_TABLES)
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        self._connection.close()

    def newest(self) -> str | None:
        """The token of the lease taken last."""
        with self._one_line_for_faults():
            row = self._connection.execute("select token from leases order by id desc limit 1").fetchone()
        return None if row is None else str(row[0])

    def history(self) -> list[str]:
        """Tokens of all leases, oldest first."""
        with self._one_line_for_faults():
            return [str(token) for (token,) in self._connection.execute("select token from leases order by id")]

    def add(self, token: str, taken: datetime) -> None:
        """Keep a fresh lease; `taken`, which the server vouches for, becomes the highest time seen."""
        with self._one_line_for_faults():
            self._connection.execute("begin immediate")
            self._connection.execute("insert into leases (taken, token) values (?, ?)", (_text(taken), token))
            self._connection.execute("insert or replace into clock (id, highest) values (1, ?)", (_text(taken),))
            self._connection.execute("commit")

    def highest(self) -> datetime | None:
        """The highest time seen; None in a new file."""
        with self._one_line_for_faults():
            row = self._connection.execute("select highest from clock").fetchone()
            try:
                return None if row is None else datetime.fromisoformat(row[0])
            except ValueError as error:
                raise sqlite3.DatabaseError(str(error)) from error

    def see(self, moment: datetime) -> None:
        """Raise the highest time seen."""
        with self._one_line_for_faults():
            self._connection.execute(
                "insert into clock (id, highest) values (1, ?)"
                " on conflict (id) do update set highest = max(highest, excluded.highest)",
                (_text(moment),),
            )

    @contextmanager
    def _one_line_for_faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StartError(
                f"cannot use the lease file {self._path}: {error}; is another process using it?"
            ) from error
        except sqlite3.DatabaseError as error:
            raise StartError(
                f"the lease file {self._path} is damaged ({error}): remove it, and the lease is taken anew"
            ) from error


def _text(moment: datetime) -> str:
    # Of one length and zone, so that texts compare as times do.
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
