"""What a process runs that works for another one: it answers each message with one.

Kept true: it fails with a message or by its end, never by silence. All that it is told comes through its standard
input, keys too, never by its command line; it ends when that input does, so it does not outlive who started it. Of
another version of the program than that, it does nothing. It asks not to be ended: what becomes of a job that is
interrupted is decided in the other process.
"""

import contextlib
import mmap
import os
import pickle
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from client.platforms.linux import give_back_large_buffers
from client.version import VERSION


class Start(NamedTuple):
    """The first message: the version of the program that sends it; descriptors of answers and of shared memory.

    A process is started from what is installed then, which may be another version. After it comes what all the work
    has in common.
    """

    program: str
    answers: int
    room: int


class Ready(NamedTuple):
    """The first answer: messages may come, of the same version of the program."""

    program: str


class Failure(NamedTuple):
    """The last answer, where something was raised."""

    what: str


def answer_messages(begin: Callable[[Any, memoryview], Callable[[Any], object]]) -> None:
    """Answer the messages that come, one after another, until there are no more.

    `begin` gets what all the work has in common and the memory that is shared, and answers what answers a message.
    """
    give_back_large_buffers()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    messages = sys.stdin.buffer
    with contextlib.suppress(EOFError, BrokenPipeError):
        start = pickle.load(messages)  # noqa: S301 - from the process that started this one
        with os.fdopen(start.answers, "wb") as answers:

            def tell(answer: object) -> None:
                pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
                answers.flush()

            if start.program != VERSION:
                tell(Failure(f"it is of version {VERSION}, and was started by {start.program}"))
                return
            try:
                answer = begin(pickle.load(messages), memoryview(mmap.mmap(start.room, 0)))  # noqa: S301
                tell(Ready(VERSION))
                while True:
                    tell(answer(pickle.load(messages)))  # noqa: S301
            except (EOFError, BrokenPipeError):
                raise
            except Exception as error:  # noqa: BLE001 - told to the other process, which decides what is to become of it
                tell(Failure(f"{type(error).__name__}: {error}"))
