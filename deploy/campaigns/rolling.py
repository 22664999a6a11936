"""Every node is restarted, one after the other and twice, while a backup runs that lasts as long as that takes.

Ends with 0 only if the backup ended with 0 and nothing to say, and what it stored comes back with the same SHA-256.
"""

import argparse
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from typing import IO

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from deploy.driver import CommandFailed, Device, Operator

_MIB = 1 << 20
_PACE_SECONDS = 0.05  # for a MiB, so that the disk is not filled while nodes restart
_TURNS = 2
_PATIENCE_SECONDS = 120.0
_LOOK_SECONDS = 0.5
_VAULT = "main"


def main() -> int:
    argparse.ArgumentParser(prog="make campaign-rolling", description=__doc__).parse_args()
    folder = Path(tempfile.mkdtemp(prefix="oort-campaign-rolling-"))
    with ExitStack() as last:
        last.callback(shutil.rmtree, folder)
        operator = Operator(folder / "stack")
        last.callback(operator.down)
        operator.up()
        try:
            _campaign(operator, folder)
        except CommandFailed as failed:
            sys.stdout.write(f"FOUND: {failed}\n")
            return 1
    return 0


def _campaign(operator: Operator, folder: Path) -> None:
    password = secrets.token_urlsafe(18)
    operator.add_user("anna", password)
    device = Device(folder / "home")
    device.log_in(operator, "anna", password)
    device.request_vault(_VAULT)
    with _backup(device) as source:
        for _ in range(_TURNS):
            for node in operator.status()["nodes"]:
                seconds = _restart(operator, node)
                _say(f"{node} was restarted in {seconds:.1f} s, the backup having read {source.mib:,} MiB")
    stored = source.snapshot
    command = device.tool.line("dump", stored, "/stdin", "--vault", _VAULT)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(device.tool.env)) as dump:
        back = sha256()
        while piece := dump.stdout.read(_MIB) if dump.stdout else b"":
            back.update(piece)
    if dump.returncode != 0 or back.digest() != source.digest:
        raise CommandFailed(f"the dump ended with {dump.returncode} and other bytes than were backed up")
    _wait_for_copies(operator)
    device.tool.ok("check", "--read-data", "--vault", _VAULT)
    _say(f"The backup of {source.mib:,} MiB ended with 0; all of it came back, from two complete copies.")


class _Source:
    """Bytes without an end, until `stop`."""

    def __init__(self) -> None:
        self.mib = 0
        self.snapshot = ""
        self._hash = sha256()
        self._stop = Event()

    @property
    def digest(self) -> bytes:
        return self._hash.digest()

    def write_to(self, pipe: IO[bytes]) -> None:
        cipher = Cipher(AES256(secrets.token_bytes(32)), CTR(bytes(16))).encryptor()
        # Who reads may have ended in error, and says so itself.
        with suppress(BrokenPipeError), pipe:
            while not self._stop.wait(_PACE_SECONDS):
                piece = cipher.update(bytes(_MIB))
                pipe.write(piece)
                self._hash.update(piece)
                self.mib += 1

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def _backup(device: Device) -> Iterator[_Source]:
    """A backup that runs until this is left. Raises CommandFailed if it does not end with 0."""
    source = _Source()
    command = device.tool.line("backup", "--stdin", "--vault", _VAULT, "--json")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=dict(device.tool.env)) as process:
        if process.stdin is None:
            raise AssertionError("a pipe was asked for")
        writer = Thread(target=source.write_to, args=(process.stdin,), name="source")
        writer.start()
        try:
            yield source
        finally:
            source.stop()
            writer.join()
            process.stdin = None  # closed; communicate would flush it
            output, errors = process.communicate()
    if process.returncode != 0 or errors.strip():
        raise CommandFailed(f"the backup ended with {process.returncode}: {errors.decode(errors='replace').strip()}")
    source.snapshot = json.loads(output.splitlines()[-1])["snapshot"]


def _restart(operator: Operator, name: str) -> float:
    """As an operator restarts a node; answers the seconds until it serves again."""
    began = time.monotonic()
    operator.oort.ok("stack", "restart", name, "--data", str(operator.data))
    return time.monotonic() - began


def _wait_for_copies(operator: Operator) -> None:
    """Until both nodes have all: each fetches what was stored while it was away. Raises CommandFailed."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not operator.status()["copies_complete"]:
        if time.monotonic() > end:
            raise CommandFailed(f"copies are still missing after {_PATIENCE_SECONDS:.0f} s")
        time.sleep(_LOOK_SECONDS)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
