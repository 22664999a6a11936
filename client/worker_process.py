"""Processes that work for this one, so that one interpreter's lock does not keep a processor idle.

Kept true: where none can be started, or only of another version of the program, nobody waits for one in vain; one that
is lost does nothing any more. None outlives this process: each ends by itself when its standard input does
(worker_program.py).
"""

import contextlib
import mmap
import os
import pickle
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any, cast

from client.platforms.linux import give_back_shared_memory, processors, shared_memory
from client.version import VERSION
from client.worker_program import Failure, Ready, Start

_END_SECONDS = 2.0  # in which a process that answers no more has ended
_OF_ANOTHER_VERSION = (AttributeError, ImportError, TypeError, ValueError)  # where an answer has another shape


class ProcessLost(Exception):
    """A process is no more, and has not answered; the text is a verb and says why: `was ended by signal 9`."""


def start_process(program: str, setting: object, *, room: int, given: int) -> "WorkerProcess | None":
    """Start one; None if that cannot be, or one processor is all there is.

    It runs `program`, a line of Python that calls `answer_messages`, and has an open descriptor `given` under the same
    number. `setting` is what all the work has in common, `room` the number of bytes of memory that both have.
    """
    if processors() == 1 or getattr(sys, "frozen", False) or not sys.executable:
        return None
    with contextlib.suppress(OSError):
        return WorkerProcess(program, setting, room=room, given=given)
    return None


class WorkerProcess:
    """One process, and the memory that is shared with it. For one thread at a time, but for `kill`."""

    def __init__(self, program: str, setting: object, *, room: int, given: int) -> None:
        """As `start_process`. Raises OSError."""
        self._ready = False
        self._in_use = threading.Lock()
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            memory = shared_memory(room)
            theirs.callback(os.close, memory)
            reading, answers = os.pipe()  # not standard output, to which whatever starts with Python may write
            theirs.callback(os.close, answers)
            self._answers = ours.enter_context(os.fdopen(reading, "rb"))
            self._room = mmap.mmap(memory, room)
            self.room = memoryview(self._room)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(given, memory, answers),
                process_group=0,  # a terminal's signals are for us
            )
            ours.pop_all()
        self._coming = select.poll()
        self._coming.register(self._answers, select.POLLIN)
        self._messages = cast("IO[bytes]", self._process.stdin)
        with contextlib.suppress(OSError):  # it is no more, which shows when it is not ready
            self._send(Start(VERSION, answers, memory))
            self._send(setting)

    def is_ready(self) -> bool:
        """Whether it takes messages: it takes a moment to start. Raises ProcessLost if it never will."""
        with self._pipes():
            if not self._ready and self._coming.poll(0):
                self._await_ready()
            return self._ready

    def ask(self, message: object) -> Any:
        """The answer to a message, for which it waits. Raises ProcessLost."""
        with self._pipes():
            self._await_ready()
            try:
                self._send(message)
            except OSError:
                raise self._lost() from None
            return self._receive()

    def give_back_room(self, start: int) -> None:
        """Have the room, from byte `start` on, take no memory until something is put there."""
        give_back_shared_memory(self._room, start)

    def kill(self) -> None:
        """End it, whatever it does: a thread that waits for its answer gets ProcessLost.

        It is not waited for long: nothing ends a process that the system holds in a call to a disk, say.
        """
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
            self._let_go()

    def close(self) -> None:
        """Have it end when it has done what it does, and wait for that; if that is interrupted, it is killed."""
        self._let_go()
        try:
            self._process.wait()
        except BaseException:
            self._process.kill()
            raise

    def _let_go(self) -> None:
        with self._in_use:
            with contextlib.suppress(OSError):
                self._messages.close()
            self._answers.close()

    @contextlib.contextmanager
    def _pipes(self) -> Iterator[None]:
        """No other thread closes them meanwhile. Raises ProcessLost if that was done."""
        with self._in_use:
            if self._answers.closed:
                raise self._lost()
            yield

    def _await_ready(self) -> None:
        if self._ready:
            return
        try:
            answer = self._receive()
        except _OF_ANOTHER_VERSION as error:
            raise self._lost(f"is of another version ({error})") from None
        if answer != Ready(VERSION):
            raise self._lost("is of another version")
        self._ready = True

    def _send(self, message: object) -> None:
        pickle.dump(message, self._messages, pickle.HIGHEST_PROTOCOL)
        self._messages.flush()

    def _receive(self) -> Any:
        try:
            answer = pickle.load(self._answers)  # noqa: S301 - of a process that we started
        except (OSError, EOFError, pickle.UnpicklingError):
            raise self._lost() from None
        if isinstance(answer, Failure):
            raise self._lost(f"failed ({answer.what})")
        return answer

    def _lost(self, why: str = "") -> ProcessLost:
        """See that it has ended, for the reason `why`; without one, how it did is the reason."""
        if why:
            self._process.kill()
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return ProcessLost(why or (f"was ended by signal {-code}" if code < 0 else f"ended with {code}"))
