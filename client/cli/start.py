"""The first and the last moments of `backup-tool`.

Kept true: from the first line on, Ctrl-C and SIGTERM end the program with one line and code 130; the three standard
streams exist; when the code is known, it is what the process ends with. For that it imports nothing at its head but
what the interpreter has loaded already; only an interruption before, while Python itself starts, is Python's.
"""

import gc
import os
import signal
import sys

_INTERRUPTED = 130
_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def main() -> None:
    """The program."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end_at_once)
    _have_streams()
    # What is imported is no garbage, and looking for some among it takes a tenth of the time; Invocation ends this.
    gc.disable()
    # gRPC would write its own lines beside ours; what it has to say reaches us as errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from client import interrupts
    from client.cli import program

    try:
        interrupts.install()
        code = program.run(sys.argv[1:])
        interrupts.ignore()
    except KeyboardInterrupt:
        # It fell between two lines of `run` itself, which tells of all the others.
        interrupts.ignore()
        code = program.tell_interrupted(sys.argv[1:])
    leave(code)


def leave(code: int) -> None:
    """End the process with `code`, now.

    Not by sys.exit: the interpreter would be taken down under threads of native code that are still about (gRPC polls
    its channels, LMDB and zstd hold buffers), and one that wakes up then touches freed memory: the code would be -11
    instead of what happened. Everything of ours is closed by now, so only what waits in the streams is left to do.
    """
    from contextlib import suppress

    for stream in (sys.stdout, sys.stderr):
        # One that cannot be written was told of where the result was written, or there is nobody to tell.
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _end_at_once(_number: int, _frame: object) -> None:
    """Nothing has begun, so there is nothing to close."""
    text = "backup-tool: interrupted."
    if "--json" in sys.argv:
        text = '{"type": "error", "error": "Interrupted", "message": "interrupted.", "exit_code": 130}'
    try:
        os.write(2, text.encode() + b"\n")
    finally:
        os._exit(_INTERRUPTED)


def _have_streams() -> None:
    """Put /dev/null where the caller has closed a stream, lest a file of ours gets its number; set how names go out."""
    for descriptor, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - as long as the process
    # Names may hold bytes that are no text: they go out as they came in.
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
