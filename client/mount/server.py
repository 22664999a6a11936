"""The loop that answers the kernel.

Kept true: every request that wants an answer gets exactly one, an error if nothing better. A thread that has taken a
request answers it, however long that takes, except the last one that is free: it puts by what may wait for the vault,
and goes on taking requests, so that who is interrupted is let go whatever the others wait for. Reads of files have not
all threads, so that they do not hold up looks into folders. What nobody has heard the answer of is undone.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from client.mount import kernel
from client.mount.kernel import Opcode

MOST_THREADS = 32
# What is answered from memory; anything else may wait for the vault.
_QUICK = frozenset(
    (
        *(Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.RELEASE, Opcode.RELEASEDIR),
        *(Opcode.READDIR, Opcode.READDIRPLUS, Opcode.STATFS),
    )
)
_GONE = (errno.ENODEV, errno.ECONNABORTED)
_UNHEARD = (errno.ENOENT, *_GONE)
_AGAIN = (errno.ENOENT, errno.EINTR, errno.EAGAIN)
_LOOK_SECONDS = 0.5

Answer = bytes | int | Sequence[bytes | memoryview]  # an int is a negative errno
Operation = Callable[[int, memoryview], Answer | None]


@dataclass(frozen=True, slots=True)
class _Request:
    opcode: int
    unique: int
    node: int
    rest: memoryview
    operation: Operation


class Server:
    """Answers by `operations`, by opcode: each gets a node and the rest of a request; None is no answer.

    `undoing` gets answers that nobody has heard, by opcode.
    """

    def __init__(
        self,
        channel: int,
        operations: Mapping[int, Operation],
        undoing: Mapping[int, Callable[[bytes], None]],
        failed: Callable[[int, Exception], None],
        started: Callable[[], None],
        *,
        checks_permissions: bool,
    ) -> None:
        """`failed` is told of what a request for a node ended with, `started` when the kernel has greeted."""
        self._channel = channel
        self._operations = operations
        self._undoing = undoing
        self._failed = failed
        self._started = started
        self._checks_permissions = checks_permissions
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._most = MOST_THREADS
        self._idle = self._reads = 0
        self._waiting: set[int] = set()  # requests that want an answer
        self._put_by: dict[int, _Request] = {}  # of these, in the order in which they came
        self._is_over = threading.Event()
        self._error: BaseException | None = None

    def serve(self) -> None:
        """Answer until the file system is unmounted. Raises UsageError for a kernel that is too old."""
        with self._lock:
            self._start()
            self._start_another()
        while not self._is_over.wait(_LOOK_SECONDS):  # an interrupt that comes as it begins to wait does not wake it
            pass
        if self._error is not None:
            raise self._error

    def join(self, seconds: float) -> bool:
        """Whether all threads have ended, after it was unmounted; who has a file open keeps them."""
        self._is_over.set()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def _start(self) -> None:
        """One thread more; raises RuntimeError if the system gives none."""
        thread = threading.Thread(target=self._run, name=f"mount-{len(self._threads)}", daemon=True)
        thread.start()
        self._threads.append(thread)
        self._idle += 1

    def _run(self) -> None:
        try:
            while not self._is_over.is_set():
                message = self._next()
                if message is None or not self._take(message):
                    break
        except BaseException as error:  # noqa: BLE001 - raised by `serve`
            self._error = error
        self._is_over.set()

    def _next(self) -> bytes | None:
        """The next request; None when it is unmounted."""
        while True:
            try:
                return os.read(self._channel, kernel.READ_BUFFER) or None
            except OSError as error:
                if error.errno in _GONE:
                    return None
                if error.errno not in _AGAIN:
                    raise

    def _take(self, message: bytes) -> bool:
        """Answer a request; False after the last."""
        _, opcode, unique, node, _, _, _, extensions, _ = kernel.HEADER.unpack_from(message)
        rest = memoryview(message)[kernel.HEADER.size : len(message) - 8 * extensions]
        operation = self._operations.get(opcode)
        if operation is None:
            return self._take_other(opcode, unique, rest)
        request = _Request(opcode, unique, node, rest, operation)
        with self._lock:
            self._waiting.add(unique)
            if self._idle == 1 and opcode not in _QUICK:
                self._start_another()
            if self._must_wait(opcode):
                self._put_by[unique] = request
                return True
            self._idle -= 1
            self._reads += opcode == Opcode.READ
        following: _Request | None = request
        while following is not None:
            self._answer(following)
            with self._lock:
                self._reads -= following.opcode == Opcode.READ
                following = self._next_put_by()
                if following is None:
                    self._idle += 1
                else:
                    self._reads += following.opcode == Opcode.READ
        return True

    def _start_another(self) -> None:
        if len(self._threads) < self._most:
            try:
                self._start()
            except RuntimeError:  # the system gives no more: those that there are do it
                self._most = len(self._threads)

    def _must_wait(self, opcode: int) -> bool:
        """Whether a request has to be put by: there are others who will take it then."""
        is_last = self._idle == 1 and len(self._threads) > 1
        return opcode not in _QUICK and (is_last or self._has_to_wait_for_reads(opcode))

    def _has_to_wait_for_reads(self, opcode: int) -> bool:
        return opcode == Opcode.READ and self._reads >= max(self._most * 3 // 4, 1)

    def _next_put_by(self) -> _Request | None:
        for unique, request in self._put_by.items():
            if not self._has_to_wait_for_reads(request.opcode):
                del self._put_by[unique]
                return request
        return None

    def _answer(self, request: _Request) -> None:
        try:
            answer = request.operation(request.node, request.rest)
        except Exception as error:  # noqa: BLE001 - the kernel is told, and a person
            answer = self._error_of(request.node, error)
        with self._lock:
            is_due = request.unique in self._waiting
            self._waiting.discard(request.unique)
        if answer is None or (is_due and self._reply(request.unique, answer)):
            return
        undo = self._undoing.get(request.opcode)
        if undo is not None and isinstance(answer, bytes):
            undo(answer)

    def _take_other(self, opcode: int, unique: int, rest: memoryview) -> bool:
        if opcode == Opcode.INIT:
            self._reply(unique, kernel.init_reply(rest, checks_permissions=self._checks_permissions))
            self._started()
        elif opcode == Opcode.INTERRUPT:
            self._interrupt(unique, kernel.ONE.unpack_from(rest)[0])
        elif opcode == Opcode.DESTROY:
            self._reply(unique, b"")
            return False
        else:
            self._reply(unique, -errno.EROFS if opcode in kernel.WRITING else -errno.ENOSYS)
        return True

    def _interrupt(self, unique: int, interrupted: int) -> None:
        with self._lock:
            is_due = interrupted in self._waiting
            self._waiting.discard(interrupted)
            self._put_by.pop(interrupted, None)
        if is_due:
            self._reply(interrupted, -errno.EINTR)
        else:
            self._reply(unique, -errno.EAGAIN)  # it may have come before what it interrupts: the kernel sends it again

    def _error_of(self, node: int, error: Exception) -> int:
        if isinstance(error, OSError) and error.errno:
            return -error.errno
        self._failed(node, error)
        return -errno.EIO

    def _reply(self, unique: int, answer: Answer) -> bool:
        """Whether the kernel took it: it knows no more of a request that it has given up, or after it has unmounted."""
        try:
            self._write(unique, answer)
        except OSError as error:
            if error.errno in _UNHEARD:
                return False
            try:
                self._write(unique, -errno.EIO)  # what is short of memory may take this
            except OSError as again:
                if again.errno not in _UNHEARD:
                    raise
            return False
        return True

    def _write(self, unique: int, answer: Answer) -> None:
        if isinstance(answer, int):
            os.write(self._channel, kernel.REPLY.pack(kernel.REPLY.size, answer, unique))
        elif isinstance(answer, bytes):
            size = kernel.REPLY.size + len(answer)
            os.write(self._channel, kernel.REPLY.pack(size, 0, unique) + answer)
        else:
            size = kernel.REPLY.size + sum(map(len, answer))
            os.writev(self._channel, [kernel.REPLY.pack(size, 0, unique), *answer])
