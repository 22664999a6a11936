"""Who waits for the vault holds up neither others nor his own end; a socket stands in for the kernel."""

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from client.mount import kernel
from client.mount.kernel import Opcode
from client.mount.server import MOST_THREADS, Answer, Server

SECONDS = 120
MANY = MOST_THREADS + 8
OTHER = 10_000  # a request beside those of the many


class Kernel:
    """Requests, and what is answered. `goes_on` lets the vault answer."""

    def __init__(self) -> None:
        self.socket, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(SECONDS)
        self.goes_on = threading.Event()
        self.undone: list[bytes] = []
        self.was_undone = threading.Event()
        self.server = Server(
            self._theirs.fileno(),
            {Opcode.READ: self._slow, Opcode.OPENDIR: self._slow, Opcode.GETATTR: lambda *_: b"attributes"},
            {Opcode.OPENDIR: self._undo},
            lambda *_: None,
            lambda: None,
            checks_permissions=False,
        )

    def _slow(self, node: int, _: memoryview) -> Answer:
        assert self.goes_on.wait(SECONDS)
        return b"%d" % node

    def _undo(self, answer: bytes) -> None:
        self.undone.append(answer)
        self.was_undone.set()

    def ask(self, opcode: Opcode, unique: int, rest: bytes = b"") -> None:
        header = kernel.HEADER.pack(kernel.HEADER.size + len(rest), opcode, unique, unique, 0, 0, 0, 0, 0)
        self.socket.send(header + rest)

    def interrupt(self, unique: int) -> None:
        self.ask(Opcode.INTERRUPT, unique + 1_000_000, kernel.ONE.pack(unique))

    def answer(self) -> tuple[int, int, bytes]:
        """Of which request, with which error, and what."""
        body = self.socket.recv(1 << 16)
        _, error, unique = kernel.REPLY.unpack_from(body)
        return unique, error, body[kernel.REPLY.size :]

    def close(self) -> None:
        self.socket.close()
        self._theirs.close()


@pytest.fixture
def kernel_side() -> Iterator[Kernel]:
    with served() as side:
        yield side


@contextmanager
def served() -> Iterator[Kernel]:
    side = Kernel()
    serving = threading.Thread(target=side.server.serve)
    serving.start()
    try:
        yield side
    finally:
        side.goes_on.set()
        side.socket.shutdown(socket.SHUT_RDWR)
        serving.join(SECONDS)
        assert side.server.join(SECONDS)
        side.close()


def test_more_reads_wait_than_there_are_threads_and_a_folder_is_looked_into(kernel_side: Kernel) -> None:
    for unique in range(1, MANY + 1):
        kernel_side.ask(Opcode.READ, unique)
    kernel_side.ask(Opcode.GETATTR, OTHER)
    assert kernel_side.answer() == (OTHER, 0, b"attributes")
    kernel_side.goes_on.set()
    answers = sorted(kernel_side.answer() for _ in range(MANY))
    assert answers == [(unique, 0, b"%d" % unique) for unique in range(1, MANY + 1)]


@pytest.mark.parametrize("opcode", [Opcode.READ, Opcode.OPENDIR])
def test_whoever_waits_is_let_go_when_interrupted_though_all_threads_wait(kernel_side: Kernel, opcode: Opcode) -> None:
    for unique in range(1, MANY + 1):
        kernel_side.ask(opcode, unique)
    for unique in range(MANY, 0, -1):
        kernel_side.interrupt(unique)
        answer = kernel_side.answer()
        while answer[1] == -errno.EAGAIN:  # it overtook what it interrupts, and the kernel sends it again
            kernel_side.interrupt(unique)
            answer = kernel_side.answer()
        assert answer == (unique, -errno.EINTR, b"")


def test_what_nobody_hears_the_answer_of_is_undone(kernel_side: Kernel) -> None:
    kernel_side.ask(Opcode.OPENDIR, 1)
    kernel_side.interrupt(1)
    answer = kernel_side.answer()
    while answer[1] == -errno.EAGAIN:
        kernel_side.interrupt(1)
        answer = kernel_side.answer()
    assert answer == (1, -errno.EINTR, b"")
    assert kernel_side.undone == []
    kernel_side.goes_on.set()
    assert kernel_side.was_undone.wait(SECONDS)
    assert kernel_side.undone == [b"1"]


@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_system_that_gives_few_threads_is_served_by_these(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    start = threading.Thread.start
    given: list[threading.Thread] = []

    def started(thread: threading.Thread) -> None:
        if thread.name.startswith("mount-"):
            if len(given) == most:
                raise RuntimeError("can't start new thread")
            given.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", started)
    with served() as side:
        for unique in range(1, MANY + 1):
            side.ask(Opcode.READ, unique)
        side.ask(Opcode.GETATTR, OTHER)
        side.goes_on.set()
        answers = {side.answer()[0] for _ in range(MANY + 1)}
    assert answers == {*range(1, MANY + 1), OTHER}


def test_an_answer_that_the_system_has_no_memory_for_is_an_error(
    kernel_side: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def scarce(descriptor: int, body: bytes) -> int:
        if body.endswith(b"attributes"):
            raise OSError(errno.ENOMEM, "no memory")
        return write(descriptor, body)

    monkeypatch.setattr(os, "write", scarce)
    kernel_side.ask(Opcode.GETATTR, OTHER)
    assert kernel_side.answer() == (OTHER, -errno.EIO, b"")
