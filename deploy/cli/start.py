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
    from deploy.cli import __main__ as program

    # From here on the commands themselves tidy up, and take SIGTERM where they must.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.enable()
    return program.main()


def _end_at_once(_number: int, _frame: object) -> None:
    """Nothing has begun, so there is nothing to close."""
    try:
        os.write(2, b"oort: interrupted\n")
    finally:
        os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
