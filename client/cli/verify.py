"""backup-tool verify"""

import json
import os
import secrets
from collections import Counter
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import click

from client.cli.console import emit, note, path_fields, plural, printable, say, size_text, telling
from client.cli.files import new_file
from client.cli.invocation import AllDevices, Invocation, Json, VaultName
from client.cli.parameters import Option
from client.cli.progress import Progress
from client.cli.views import index_lines
from client.errors import DamagedVault, UsageError
from client.version import VERSION

if TYPE_CHECKING:
    from client.account.reading import Reading
    from client.errors import ObjectMissing
    from client.proof.drill import Drilled
    from client.proof.sampling import FileSample

_SEED_BYTES = 8
Sample = Annotated[str, Option("--sample", help="How many files, or such a share as 5%.", metavar="N|P%")]
SnapshotOption = Annotated[str, Option("--snapshot", help="`latest`, an id, or the beginning of one.")]
Report = Annotated[Path | None, Option("--report", help="Write what was found to this new file, as evidence.")]
Seed = Annotated[str, Option("--seed", help="Draw the files that were drawn with this seed.")]


def verify(  # noqa: PLR0917 - they are given by name
    context: click.Context,
    vault: VaultName,
    sample: Sample = "100",
    snapshot: SnapshotOption = "latest",
    report: Report = None,
    seed: Seed = "",
    all_devices: AllDevices = False,
    as_json: Json = False,
) -> int:
    """Fetch a random sample of a snapshot's files, and compare them with what is recorded and with the live ones.

    Exit code 8: something is damaged or lost.
    """
    from client.account.reading import reading
    from client.proof.sampling import sample_of

    try:
        drawn = sample_of(sample, seed or secrets.token_hex(_SEED_BYTES))
    except ValueError as error:
        raise UsageError(detail=f"--sample: {error}") from None
    with (
        nullcontext() if report is None else new_file(report) as file,
        Invocation.of(context).device() as device,
        reading(device, vault, snapshot, all_devices=all_devices, progress=index_lines(as_json=as_json)) as opened,
    ):
        head = _head(opened, vault, sample, drawn)
        evidence = None if file is None else _Evidence(file, head)
        drilled = _Drilled(evidence, as_json=as_json)
        drilled.run(opened, drawn, is_here=opened.snapshot.device == device.id)
        found = {"ended": _now(), **drilled.describe()}
        if evidence is not None:
            evidence.finish(found)
    with telling(f"{plural(drilled.files, 'file')} of snapshot {opened.snapshot.short_id} verified"):
        if as_json:
            emit({"type": "summary", **head, **found})
        else:
            drilled.show(opened.snapshot.short_id, drawn.seed, report)
    return DamagedVault.exit_code if drilled.damaged else 0


def _head(opened: "Reading", vault: str, sample: str, drawn: "FileSample") -> dict[str, Any]:
    """What is looked at."""
    snapshot = opened.snapshot
    return {
        "document": "oort restore drill 1",
        "program": f"backup-tool {VERSION}",
        "started": _now(),
        "vault": {"name": vault, "id": opened.place.entry.id, "repository": opened.vault.config.id},
        "snapshot": {
            "id": snapshot.id,
            "time": snapshot.time.isoformat(),
            "hostname": snapshot.hostname,
            "paths": list(snapshot.paths),
            "tree": snapshot.tree.hex(),
        },
        "sample": sample,
        "seed": drawn.seed,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat()


class _Evidence:
    """The report, written as files are drilled: there may be millions."""

    def __init__(self, file: IO[bytes], head: dict[str, Any]) -> None:
        self._file = file
        self._comma = b""
        file.write(json.dumps(head, indent=1).encode()[:-2] + b',\n "files": [')

    def add(self, found: dict[str, Any]) -> None:
        self._file.write(self._comma + b"\n  " + json.dumps(found).encode())
        self._comma = b","

    def finish(self, found: dict[str, Any]) -> None:
        self._file.write(b"\n ],\n" + json.dumps(found, indent=1).encode()[2:] + b"\n")


class _Drilled:
    """What was found of each file, and of folders whose lists are lost."""

    def __init__(self, evidence: _Evidence | None, *, as_json: bool) -> None:
        self._evidence = evidence
        self._as_json = as_json
        self.files = 0
        self._lost_folders: list[dict[str, Any]] = []
        self._live: Counter[str] = Counter()
        self._lost = self._bytes = 0

    @property
    def damaged(self) -> int:
        """How many are lost, or other than the live file is."""
        return self._lost + len(self._lost_folders) + self._live["differs"]

    def run(self, opened: "Reading", drawn: "FileSample", *, is_here: bool) -> None:
        from client.proof.drill import drill

        progress = Progress(as_json=self._as_json)
        files = drawn.draw(opened.vault, opened.snapshot, self._lose_folder)
        for one in drill(opened.vault, files, is_here=is_here):
            self._add(one)
            progress("files", self.files, 0)

    def _lose_folder(self, path: bytes, error: "DamagedVault | ObjectMissing") -> None:
        found = {**path_fields(path), "reason": str(error)}
        self._lost_folders.append(found)
        self._tell(found, f"{os.fsdecode(path)}: its list of files is lost ({error})", "lost_folder")

    def _add(self, one: "Drilled") -> None:
        node = one.node
        self._live[one.live] += 1
        self._bytes += node.size if one.digest else 0
        self._lost += one.digest is None
        self.files += 1
        if self._evidence is None and not one.is_damaged:
            return
        found = {
            **path_fields(one.path),
            "size": node.size,
            "mtime_ns": node.mtime_ns,
            "sha256": one.digest.hex() if one.digest else None,
            "chunks": [blob.hex() for blob in node.content or ()],
            "lost": one.reason or None,
            "live": str(one.live),
        }
        if self._evidence is not None:
            self._evidence.add(found)
        if one.is_damaged:
            why = one.reason or "it is not what lies on this machine, though size, time and inode are as recorded"
            self._tell(found, f"{os.fsdecode(one.path)}: {why}", "damaged")

    def _tell(self, found: dict[str, Any], text: str, kind: str) -> None:
        if self._as_json:
            emit({"type": kind, **found})
        else:
            note(printable(f"backup-tool: {text}"))

    def describe(self) -> dict[str, Any]:
        return {
            "result": "damaged" if self.damaged else "passed",
            "verified_files": self.files,
            "verified_bytes": self._bytes,
            "lost_files": self._lost,
            "lost_folders": self._lost_folders,
            "live": dict(self._live),
        }

    def show(self, snapshot: str, seed: str, report: Path | None) -> None:
        live = self._live
        size = size_text(self._bytes)
        say(f"{plural(self.files, 'file')} of snapshot {snapshot} fetched and opened, {size} (--seed {seed}).")
        say(
            f"{live['same']:,} are byte for byte what lies on this machine; {live['changed']:,} were changed since, "
            f"{live['absent']:,} are not there any more."
        )
        if report is not None:
            say(f"The report is {report}.")
        if self.damaged:
            say(f"{plural(self.damaged, 'path')} lost, or other than on this machine (named above).")
