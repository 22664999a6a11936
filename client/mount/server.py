"""The loop that answers the kernel.

Kept true: every request that wants an answer gets exactly one, an error if nothing better. A thread that has taken a
request answers it, however long that takes; there is always another that takes the next, up to a number at which only
as many slow answers hold up a quick one. Who is interrupted while waiting is let go.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from client.mount import kernel
from client.mount.kernel import Opcode

MOST_THREADS = 32
_FIRST_THREADS = 2
_GONE = (errno.ENODEV, errno.ECONNABORTED)
_AGAIN = (errno.ENOENT, errno.EINTR, errno.EAGAIN)
_LOOK_SECONDS = 0.5

Answer = bytes | int | Sequence[bytes | memoryview]  # an int is a negative errno
Operation = Callable[[int, memoryview], Answer | None]


class Server:
    """Answers by `operations`, by opcode: each gets a node and the rest of a request; None is no answer."""

    def __init__(
        self,
        channel: int,
        operations: Mapping[int, Operation],
        failed: Callable[[int, Exception], None],
        started: Callable[[], None],
        *,
        checks_permissions: bool,
    ) -> None:
        """`failed` is told of what a request for a node ended with, `started` when the kernel has greeted."""
        self._channel = channel
        self._operations = operations
        self._failed = failed
        self._started = started
        self._checks_permissions = checks_permissions
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._waiting: set[int] = set()  # requests that want an answer
        self._is_over = threading.Event()
        self._error: BaseException | None = None

    def serve(self) -> None:
        """Answer until the file system is unmounted. Raises UsageError for a kernel that is too old."""
        for _ in range(_FIRST_THREADS):
            self._start()
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
        self._idle += 1
        thread = threading.Thread(target=self._run, name=f"mount-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

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
        with self._lock:
            self._waiting.add(unique)
            self._idle -= 1
            if not self._idle and len(self._threads) < MOST_THREADS:
                self._start()
        try:
            answer = operation(node, rest)
        except Exception as error:  # noqa: BLE001 - the kernel is told, and a person
            answer = self._error_of(node, error)
        with self._lock:
            self._idle += 1
            is_due = unique in self._waiting
            self._waiting.discard(unique)
        if is_due and answer is not None:
            self._reply(unique, answer)
        return True

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
        if is_due:
            self._reply(interrupted, -errno.EINTR)
        else:
            self._reply(unique, -errno.EAGAIN)  # it may have come before what it interrupts: the kernel sends it again

    def _error_of(self, node: int, error: Exception) -> int:
        if isinstance(error, OSError) and error.errno:
            return -error.errno
        self._failed(node, error)
        return -errno.EIO

    def _reply(self, unique: int, answer: Answer) -> None:
        # The kernel knows no more of a request that it has given up, nor after it has unmounted.
        with suppress(OSError):
            if isinstance(answer, int):
                os.write(self._channel, kernel.REPLY.pack(kernel.REPLY.size, answer, unique))
            elif isinstance(answer, bytes):
                size = kernel.REPLY.size + len(answer)
                os.write(self._channel, kernel.REPLY.pack(size, 0, unique) + answer)
            else:
                size = kernel.REPLY.size + sum(map(len, answer))
                os.writev(self._channel, [kernel.REPLY.pack(size, 0, unique), *answer])
