"""backup-tool check"""

import os
import secrets
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated

import click

from client.cli.amounts import size_of
from client.cli.console import emit, note, path_fields, plural, printable, say
from client.cli.invocation import Invocation, Json, VaultName
from client.cli.parameters import Option
from client.cli.progress import Progress
from client.errors import DamagedVault, SessionOver, UsageError

if TYPE_CHECKING:
    from client.account.opening import Place
    from client.vault.problems import Problem
    from client.vault.repository import Vault
    from client.vault.subsets import Subset
    from client.vault.tree_check import Touched

_SEED_BYTES = 8
_REMEMBERED = 100_000  # problems, in some 10 MB
_DIGEST_BYTES = 16
ReadData = Annotated[bool, Option("--read-data", help="Also fetch and open every pack.")]
ReadDataSubset = Annotated[
    str,
    Option(
        "--read-data-subset",
        help="As --read-data, of some packs: a random 5%, a random 2G, or part 1/7 of seven.",
        metavar="SUBSET",
    ),
]
Seed = Annotated[str, Option("--seed", help="Draw the random sample that was drawn with this seed.")]


def check(  # noqa: PLR0917 - they are given by name
    context: click.Context,
    vault: VaultName,
    read_data: ReadData = False,
    read_data_subset: ReadDataSubset = "",
    seed: Seed = "",
    as_json: Json = False,
) -> int:
    """Check a vault strictly. Exit code 8: something is damaged or missing."""
    from client.account.opening import place_of

    subset = _subset(read_data_subset, seed, read_data=read_data)
    telling = _Telling(as_json=as_json)
    with Invocation.of(context).device() as device, place_of(device, vault, from_cache=False) as place:
        packs_read = _check(place, telling, subset, read_data=read_data)
    errors, notes = telling.errors, telling.notes
    drawn = getattr(subset, "seed", None)
    if as_json:
        emit(
            {
                "type": "summary",
                "errors": errors,
                "notes": notes,
                "touched_paths": telling.paths,
                "touched_snapshots": len(telling.snapshots),
                "read_data": read_data,
                "read_data_subset": read_data_subset or None,
                "seed": drawn,
                "packs_read": packs_read,
            }
        )
        return DamagedVault.exit_code if errors else 0
    if subset is not None:
        again = f"; with --seed {drawn} they are drawn again" if drawn else ""
        say(f"Of the packs, {packs_read:,} {'was' if packs_read == 1 else 'were'} read{again}.")
    if errors:
        say(f"{vault} is damaged: {plural(errors, 'error')} found.")
        if telling.paths:
            say(f"{plural(telling.paths, 'path')} in {plural(len(telling.snapshots), 'snapshot')} touched.")
    else:
        say(f"{vault} is in order" + (f" ({plural(notes, 'note')})." if notes else "."))
    return DamagedVault.exit_code if errors else 0


def _subset(text: str, seed: str, *, read_data: bool) -> "Subset | None":
    """Raises UsageError."""
    from client.vault.subsets import Part, subset_of

    if not text:
        if seed:
            raise UsageError(detail="--seed is for --read-data-subset with a share or a size")
        return None
    if read_data:
        raise UsageError(detail="give --read-data or --read-data-subset, not both")
    try:
        subset = subset_of(text, seed or secrets.token_hex(_SEED_BYTES), size_of)
    except ValueError as error:
        raise UsageError(detail=f"--read-data-subset: {error}") from None
    if seed and isinstance(subset, Part):
        raise UsageError(detail=f"the packs of {text} are always the same: there is no seed to give")
    return subset


class _Telling:
    """Tells of each thing once, and counts.

    So many are remembered, with 16 bytes each. Of a vault with more, the others are told again by a check that begins
    again, and counted once.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.paths = 0
        self.snapshots: set[str] = set()
        self._told: set[bytes] = set()
        self._remembered: Counter[bool] = Counter()  # by whether they are errors
        self._others: Counter[bool] = Counter()

    @property
    def errors(self) -> int:
        return self._remembered[True] + self._others[True]

    @property
    def notes(self) -> int:
        return self._remembered[False] + self._others[False]

    def begin(self) -> None:
        """All is checked, from the beginning."""
        self.paths = 0
        self._others.clear()

    def problem(self, problem: "Problem") -> bool:
        """False if it was told before."""
        digest = sha256(repr(problem).encode(errors="surrogatepass")).digest()[:_DIGEST_BYTES]
        if digest in self._told:
            return False
        if len(self._told) < _REMEMBERED:
            self._told.add(digest)
            self._remembered[problem.is_error] += 1
        else:
            self._others[problem.is_error] += 1
        if self.as_json:
            fields = {"name": problem.name, "detail": problem.detail, "is_error": problem.is_error}
            emit({"type": "problem", **fields})
        else:
            note(printable(f"{'error' if problem.is_error else 'note'}: {problem}"))
        return True

    def touched(self, touched: "Touched") -> None:
        tell_touched(touched, as_json=self.as_json)
        self.paths += 1
        self.snapshots.update(snapshot.id for snapshot in touched.snapshots)


def tell_touched(touched: "Touched", *, as_json: bool) -> None:
    """A line of what is lost, with what, and in which snapshots."""
    if as_json:
        ids = [snapshot.id for snapshot in touched.snapshots]
        emit({"type": "touched", **path_fields(touched.path), "objects": list(touched.objects), "snapshots": ids})
        return
    where = ", ".join(snapshot.short_id for snapshot in touched.snapshots)
    noun = "snapshot" if len(touched.snapshots) == 1 else "snapshots"
    path = os.fsdecode(touched.path)
    note(printable(f"lost: {path} in {noun} {where}, with {', '.join(touched.objects)}"))


def _check(place: "Place", telling: _Telling, subset: "Subset | None", *, read_data: bool) -> int:
    """Check all, and answer how many packs were read.

    A check is of one session: if that is ended, all is checked again in another.
    """
    from domain.sessions import Purpose

    for is_last in (False, True):
        try:
            with place.store.open(Purpose.READ) as session:
                opened = place.open(session)
                if opened is None:
                    return 0
                with opened:
                    telling.begin()
                    for problem in place.seal_problems(session):
                        telling.problem(problem)
                    return _check_vault(opened, telling, subset, read_data=read_data)
        except SessionOver as over:
            if is_last:
                raise
            note(f"backup-tool: {over.fields['place']} has ended the session: the check begins again.")
    raise AssertionError("the last session answers or raises")


def _check_vault(vault: "Vault", telling: _Telling, subset: "Subset | None", *, read_data: bool) -> int:
    from client.backup.memo import forget
    from client.vault.checker import Check

    progress = Progress(as_json=telling.as_json)
    with Check(vault, progress, read_data=read_data, subset=subset) as checking:
        for problem in checking.problems():
            if telling.problem(problem) and problem.is_error:
                forget(vault)
        for touched in checking.touches():
            telling.touched(touched)
        return checking.packs_read
