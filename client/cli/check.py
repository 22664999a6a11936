"""backup-tool check"""

from typing import TYPE_CHECKING, Annotated

import click

from client.cli.console import emit, note, plural, printable, say
from client.cli.invocation import Invocation, Json, VaultName
from client.cli.parameters import Option
from client.cli.progress import Progress
from client.errors import DamagedVault, SessionOver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from client.account.opening import Place
    from client.vault.checker import Problem

ReadData = Annotated[bool, Option("--read-data", help="Also fetch and open every pack.")]


def check(context: click.Context, vault: VaultName, read_data: ReadData = False, as_json: Json = False) -> int:
    """Check a vault strictly. Exit code 8: something is damaged or missing."""
    from client.account.opening import place_of

    errors = notes = 0
    with Invocation.of(context).device() as device, place_of(device, vault, from_cache=False) as place:
        for problem in _problems(place, Progress(as_json=as_json), read_data=read_data):
            errors += problem.is_error
            notes += not problem.is_error
            if as_json:
                emit({"type": "problem", "name": problem.name, "detail": problem.detail, "is_error": problem.is_error})
            else:
                note(printable(f"{'error' if problem.is_error else 'note'}: {problem}"))
    if as_json:
        emit({"type": "summary", "errors": errors, "notes": notes, "read_data": read_data})
    elif errors:
        say(f"{vault} is damaged: {plural(errors, 'error')} found.")
    else:
        say(f"{vault} is in order" + (f" ({plural(notes, 'note')})." if notes else "."))
    return DamagedVault.exit_code if errors else 0


def _problems(place: "Place", progress: Progress, *, read_data: bool) -> "Iterator[Problem]":
    """What is wrong, each thing once. A check is of one session: if that is ended, all is checked again in another."""
    from client.backup.memo import forget
    from client.vault.checker import check
    from domain.sessions import Purpose

    told: set[Problem] = set()
    for is_last in (False, True):
        try:
            with place.store.open(Purpose.READ) as session:
                opened = place.open(session)
                if opened is None:
                    return
                with opened:
                    for problem in check(opened, read_data, progress):
                        if problem not in told:
                            if problem.is_error:
                                forget(opened)
                            told.add(problem)
                            yield problem
        except SessionOver as over:
            if is_last:
                raise
            note(f"backup-tool: {over.fields['place']} has ended the session: the check begins again.")
        else:
            return
