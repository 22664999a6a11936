"""One reader, fed for a set time: `python -m deploy.campaigns.fuzz_reader NAME SECONDS FOLDER`.

Kept true: a finding leaves the bytes that made it in FOLDER, and ends the process with another code than 0. A reader
that takes more than ten seconds of the processor, or more than a gigabyte, for one document is a finding too.

Guided by coverage where atheris is installed (`make campaign-fuzz` sees to that), and blindly otherwise.
"""

import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from random import Random
from types import FrameType

from client.testing.formats import LONGEST_SECONDS, Format
from client.testing.mutation import mutated

_ENDLESS_SECONDS = 60  # on the clock on the wall, for one document
_MOST_MEMORY = 1 << 30
_LONGEST_DOCUMENT = 1 << 20
_AFRESH = 0.2  # of all documents begin from a seed, the others from what was found to lead somewhere new


def main(name: str, seconds: int, folder: Path) -> None:
    if find_spec("atheris") is None:
        _feed_blindly(_format(name), seconds, folder)
    else:
        _feed_guided(name, seconds, folder)


def _format(name: str) -> Format:
    from deploy.campaigns.formats import FORMATS, PLANTED

    return next(format_ for format_ in (*FORMATS, PLANTED) if format_.name == name)


def _feed_guided(name: str, seconds: int, folder: Path) -> None:
    """Ends the process: libFuzzer does."""
    import atheris

    with atheris.instrument_imports(include=["client", "domain", "services"], enable_loader_override=False):
        format_ = _format(name)
    corpus = Path(tempfile.mkdtemp(prefix="oort-fuzz-", dir=folder))
    for number, seed in enumerate(format_.seeds):
        (corpus / str(number)).write_bytes(seed)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < _AFRESH:
            return mutated(random, format_.seeds, format_.mutators)[:most]
        if random.random() < _AFRESH:
            made: bytes = atheris.Mutate(data, most)
            return made
        return random.choice(format_.mutators)(random, data)[:most]

    options = [
        f"-max_total_time={seconds}",
        f"-max_len={_LONGEST_DOCUMENT}",
        f"-timeout={_ENDLESS_SECONDS}",
        f"-rss_limit_mb={_MOST_MEMORY >> 20}",
        f"-artifact_prefix={folder}/{name}-",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], _reading(format_), custom_mutator=mutate)
    atheris.Fuzz()


def _reading(format_: Format) -> Callable[[bytes], None]:
    def read(body: bytes) -> None:
        format_.try_to_read(body)

    return read


def _feed_blindly(format_: Format, seconds: int, folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY * 2, _MOST_MEMORY * 2))
    signal.signal(signal.SIGPROF, _too_long)
    end = time.monotonic() + seconds
    runs = 0
    while time.monotonic() < end:
        body = mutated(Random(runs), format_.seeds, format_.mutators)
        signal.setitimer(signal.ITIMER_PROF, LONGEST_SECONDS)
        try:
            format_.try_to_read(body)
        except BaseException:  # noqa: BLE001 - whatever it is, it is a finding
            signal.setitimer(signal.ITIMER_PROF, 0)
            (folder / f"{format_.name}-{runs}").write_bytes(body)
            traceback.print_exc()
            raise SystemExit(1) from None
        signal.setitimer(signal.ITIMER_PROF, 0)
        runs += 1
    sys.stderr.write(f"Done {runs} runs\n")


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise AssertionError(f"a document took more than {LONGEST_SECONDS} seconds")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
