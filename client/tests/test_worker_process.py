"""Processes that work for this one: an answer for each message, or a reason why none will come."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from client import worker_process
from client.worker_process import ProcessLost, WorkerProcess, start_process

_DOES = """
import os, signal
from client.worker_program import answer_messages
def begin(setting, room):
    def answer(message):
        if message == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if message == "fail":
            raise ValueError("that is no message")
        return setting, message, bytes(room[:5])
    return answer
answer_messages(begin)
"""
_UPGRADED = "import client.version; client.version.VERSION = 'another'; "
_ANSWERS = """
import os, pickle, sys
from client.worker_program import Ready
os.write(pickle.load(sys.stdin.buffer).answers, {answer})
sys.stdin.read()
"""

Starting = Callable[[str], WorkerProcess]


@pytest.fixture
def starting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Starting]:
    monkeypatch.setattr(worker_process, "processors", lambda: 2)
    monkeypatch.setattr(worker_process, "_END_SECONDS", 60.0)  # on a busy machine the end of one may take seconds
    given = os.open(os.devnull, os.O_RDONLY)
    with ExitStack() as started:
        started.callback(os.close, given)

        def start(program: str) -> WorkerProcess:
            process = start_process(program, "setting", room=1 << 12, given=given)
            assert process is not None
            started.callback(process.kill)
            return process

        yield start


def test_each_message_has_an_answer(starting: Starting) -> None:
    process = starting(_DOES)
    process.room[:5] = b"bytes"

    assert [process.ask(message) for message in ("one", 2)] == [("setting", "one", b"bytes"), ("setting", 2, b"bytes")]

    assert process.is_ready()
    process.close()
    assert process._process.returncode == 0


def test_one_that_answers_no_more_is_killed_and_whoever_waits_for_it_is_told(starting: Starting) -> None:
    process = starting(_DOES)
    process.ask("one")
    process._process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(process.ask, "two")
        process.kill()
        with pytest.raises(ProcessLost, match="signal 9"):
            asked.result(30)


def test_whoever_asks_one_that_was_killed_is_told(starting: Starting) -> None:
    process = starting(_DOES)
    process.ask("one")
    process.kill()
    for ask in (process.is_ready, lambda: process.ask("two")):
        with pytest.raises(ProcessLost, match="signal 9"):
            ask()


def test_it_is_not_waited_for_while_it_starts(starting: Starting) -> None:
    assert not starting("import sys; sys.stdin.read()").is_ready()


@pytest.mark.parametrize(
    ("message", "why"), [("die", "^was ended by signal 9$"), ("fail", r"^failed \(ValueError: that is no message\)$")]
)
def test_why_no_answer_comes_is_told_and_it_is_no_more(starting: Starting, message: str, why: str) -> None:
    process = starting(_DOES)
    with pytest.raises(ProcessLost, match=why):
        process.ask(message)
    assert process._process.returncode is not None


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (_UPGRADED + _DOES, "it is of version another"),
        (_ANSWERS.format(answer="pickle.dumps(Ready('another'))"), "is of another version"),
        (_ANSWERS.format(answer=r"b'cclient.worker_program\nNewer\n.'"), "Newer"),
    ],
    ids=["refuses", "answers", "answers what is unknown"],
)
@pytest.mark.parametrize("asks", [True, False])
def test_one_of_another_version_gets_no_message(starting: Starting, program: str, why: str, asks: bool) -> None:
    """As if the program was upgraded since this process began."""
    process = starting(program)
    process._coming.poll()
    with pytest.raises(ProcessLost, match=why):
        process.ask("message") if asks else process.is_ready()
    assert process._process.returncode is not None
