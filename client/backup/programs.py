"""The output of a program, as a stream.

Kept true: a program that ends with anything but 0 has not given all of its output; what it says on standard error is
heard, line by line; when the backup has ended, however it did, the program has too.
"""

import os
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from client.errors import StreamIncomplete, UsageError

_LOOK_SECONDS = 0.2
_PATIENCE = 5.0  # seconds that a program gets to end when it is asked to
_LONGEST_LINE = 4096  # bytes of what a program complains of that are told as one line
_PIPE_BYTES = 1 << 20


class ProgramOutput:
    """A command and its arguments; it is started when the stream is opened. Raises UsageError if there is none."""

    def __init__(self, command: Sequence[str]) -> None:
        if not command:
            raise UsageError(detail="there is no command to run: give it after `--`")
        if shutil.which(command[0]) is None:
            raise UsageError(detail=f"cannot run {command[0]}: there is no such program")
        self._command = [*command]

    def __str__(self) -> str:
        return f"`{self._command[0]}`"

    @contextmanager
    def open(self, complain: Callable[[str], None]) -> Iterator["RunningProgram"]:
        """Run the program. It has no input, and this process's folder, environment and terminal."""
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pipesize=_PIPE_BYTES,
            )
        except OSError as error:
            raise StreamIncomplete(stream=self, what=f"could not be started: {error.strerror}") from None
        program = os.path.basename(self._command[0])
        running = RunningProgram(str(self), process, lambda line: complain(f"{program}: {line}"))
        try:
            yield running
        finally:
            running.end()


class RunningProgram:
    """A program that was started; see stream.Source."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", hear: Callable[[str], None]) -> None:
        if process.stdout is None or process.stderr is None:
            raise AssertionError("both are pipes")
        self._name = name
        self._process = process
        self._output: IO[bytes] = process.stdout
        self._errors: IO[bytes] = process.stderr
        self._hear = hear
        self._listener = threading.Thread(target=self._listen, name="program-errors")
        self._listener.start()

    @property
    def descriptor(self) -> int:
        return self._output.fileno()

    def finish(self, ensure_running: Callable[[], None]) -> None:
        """Wait for the program's end. Raises StreamIncomplete if it is a failure."""
        while True:
            try:
                code = self._process.wait(_LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                ensure_running()
        self._listener.join()
        if code < 0:
            raise StreamIncomplete(stream=self._name, what=f"was ended by {_signal_name(-code)}")
        if code:
            raise StreamIncomplete(stream=self._name, what=f"ended with exit code {code}")

    def end(self) -> None:
        """See that the program has ended, whether it wants to or not."""
        self._output.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._listener.join()
        self._errors.close()

    def _listen(self) -> None:
        """Hear what the program says on standard error, until it has ended: what it started may hold that open."""
        descriptor = self._errors.fileno()
        coming = select.poll()
        coming.register(descriptor, select.POLLIN)
        said = b""
        while True:
            has_ended = self._process.poll() is not None
            if coming.poll(0 if has_ended else _LOOK_SECONDS * 1000):
                new = os.read(descriptor, _LONGEST_LINE)
                if not new:
                    break
                *lines, said = (said + new).split(b"\n")
                if len(said) >= _LONGEST_LINE:
                    lines.append(said)
                    said = b""
                self._tell(lines)
            elif has_ended:
                break
        self._tell([said])

    def _tell(self, lines: list[bytes]) -> None:
        for line in lines:
            text = line.decode(errors="replace").strip()
            if text:
                self._hear(text)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
