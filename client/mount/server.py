"""The loop that answers the kernel.

Kept true: every request that wants an answer gets exactly one, an error if nothing better; what need not wait for the
vault is answered at once by the loop's own thread, all else by others, so that no slow answer holds up a quick one; who
is interrupted while waiting is let go.
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from client.mount import kernel
from client.mount.kernel import Opcode

WORKERS = 8
_GONE = (errno.ENODEV, errno.ECONNABORTED)
_AGAIN = (errno.ENOENT, errno.EINTR, errno.EAGAIN)

Answer = bytes | int | Sequence[bytes | memoryview]  # an int is a negative errno
Quick = Callable[[int, memoryview], Answer | Callable[[], Answer] | None]


class Server:
    """Answers by `operations`: each gets a node and the rest of a request; what it returns to be called takes long."""

    def __init__(
        self,
        channel: int,
        operations: dict[int, Quick],
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
        self._waiting: set[int] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(WORKERS, "mount")

    def serve(self) -> None:
        """Answer until the file system is unmounted. Raises UsageError for a kernel that is too old."""
        try:
            while True:
                try:
                    message = os.read(self._channel, kernel.READ_BUFFER)
                except OSError as error:
                    if error.errno in _GONE:
                        return
                    if error.errno in _AGAIN:
                        continue
                    raise
                if not message or not self._take(message):
                    return
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _take(self, message: bytes) -> bool:
        """Answer a request, or have it answered; False after the last."""
        _, opcode, unique, node, _, _, _, extensions, _ = kernel.HEADER.unpack_from(message)
        rest = memoryview(message)[kernel.HEADER.size : len(message) - 8 * extensions]
        operation = self._operations.get(opcode)
        if operation is None:
            return self._take_other(opcode, unique, rest)
        try:
            answer = operation(node, rest)
            if callable(answer):
                with self._lock:
                    self._waiting.add(unique)
                self._pool.submit(self._answer_later, unique, node, answer)
                return True
        except Exception as error:  # noqa: BLE001 - the kernel is told, and a person
            answer = self._error(node, error)
        if answer is not None:
            self._reply(unique, answer)
        return True

    def _take_other(self, opcode: int, unique: int, rest: memoryview) -> bool:
        if opcode == Opcode.INIT:
            self._reply(unique, kernel.init_reply(rest, checks_permissions=self._checks_permissions))
            self._started()
        elif opcode == Opcode.INTERRUPT:
            (interrupted,) = kernel.ONE.unpack_from(rest)
            if self._is_due(interrupted):
                self._reply(interrupted, -errno.EINTR)
        elif opcode == Opcode.DESTROY:
            self._reply(unique, b"")
            return False
        else:
            self._reply(unique, -errno.EROFS if opcode in kernel.WRITING else -errno.ENOSYS)
        return True

    def _answer_later(self, unique: int, node: int, answer: Callable[[], Answer]) -> None:
        try:
            found = answer()
        except Exception as error:  # noqa: BLE001 - as above
            found = self._error(node, error)
        if self._is_due(unique):
            self._reply(unique, found)

    def _is_due(self, unique: int) -> bool:
        """Whether a request still waits for its answer; from now on it does not."""
        with self._lock:
            is_due = unique in self._waiting
            self._waiting.discard(unique)
            return is_due

    def _error(self, node: int, error: Exception) -> int:
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
