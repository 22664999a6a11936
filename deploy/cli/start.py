"""The first moments of `oort`: Ctrl-C and SIGTERM end it with one line and code 130 while it still loads.

Imports nothing at its head but what the interpreter has loaded already.
"""

import gc
import os
import signal
import sys

_INTERRUPTED = 130


def main() -> int:
    """The program."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end_at_once)
    # What is imported is no garbage, and a command ends before there is much.
    gc.disable()
    # gRPC would write its own lines beside ours; what it has to say reaches us as errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from client import interrupts
    from deploy.cli import __main__ as program
    from deploy.cli import failures

    gc.enable()
    try:
        # From here on the commands themselves tidy up, whichever of the two comes.
        interrupts.install()
        code = program.main()
        interrupts.ignore()
    except KeyboardInterrupt as late:
        # It fell between two lines of `main` itself, which tells of all the others.
        interrupts.ignore()
        code = failures.tell(late, as_json="--json" in sys.argv)
    return code


def _end_at_once(_number: int, _frame: object) -> None:
    """Nothing has begun, so there is nothing to close."""
    text = b"oort: interrupted\n"
    if "--json" in sys.argv:
        text = b'{"type": "error", "error": "Interrupted", "message": "interrupted", "exit_code": 130}\n'
    try:
        os.write(2, text)
    finally:
        os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
