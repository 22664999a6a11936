"""backup-tool dump"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import click

from client.cli.console import note, printable, written
from client.cli.files import new_file
from client.cli.invocation import AllDevices, Invocation, SnapshotName, VaultName
from client.cli.ls import absolute_path
from client.cli.parameters import Argument, Option
from client.cli.unread import UnreadParts
from client.errors import UsageError
from client.restore.request import ArchiveFormat, NoProgress

From = Annotated[str, Argument(help="A file, or with --archive a folder.", metavar="PATH")]
Archive = Annotated[ArchiveFormat | None, Option("--archive", help="All below PATH, as an archive.")]
Output = Annotated[Path | None, Option("--output", help="Write to this new file, not to standard output.")]


def dump(
    context: click.Context,
    *,
    snapshot: SnapshotName,
    path: From,
    vault: VaultName,
    archive: Archive = None,
    output: Output = None,
    all_devices: AllDevices = False,
) -> int:
    """Write a file of a snapshot, or a folder as an archive, to standard output. Exit codes as for `restore`."""
    wanted = absolute_path(path)
    from client.account.reading import reading
    from client.cli.views import index_lines
    from client.restore.archive import open_archive
    from client.restore.dump import dump_archive, dump_file
    from client.restore.request import Counters, exit_code_of

    counters = Counters(_Told())
    with (
        Invocation.of(context).device() as device,
        reading(device, vault, snapshot, all_devices=all_devices, progress=index_lines(as_json=False)) as opened,
    ):
        unread = UnreadParts()
        for name, error in opened.unreadable.items():
            unread.object(name, error)
        with _output(output, is_archive=archive is not None) as stream:
            if archive is None:
                dump_file(opened.vault, opened.snapshot, wanted, stream)
            else:
                with open_archive(archive, stream) as written:
                    dump_archive(opened.vault, opened.snapshot, wanted, written, counters)
    return exit_code_of(warned=counters.warned, lost=counters.lost)


class _Told(NoProgress):
    """What is left out is named on standard error."""

    def warned(self, path: bytes, reason: str) -> None:
        note(f"backup-tool: {printable(os.fsdecode(path))}: {printable(reason)}")

    def damaged(self, path: bytes, reason: str) -> None:
        self.warned(path, reason)


def _output(path: Path | None, *, is_archive: bool) -> contextlib.AbstractContextManager[IO[bytes]]:
    if path is not None:
        return new_file(path)
    if is_archive and sys.stdout.isatty():
        raise UsageError(detail="an archive is nothing for a terminal: give --output, or a pipe")
    return _standard_output()


@contextlib.contextmanager
def _standard_output() -> Iterator[IO[bytes]]:
    with written():
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
