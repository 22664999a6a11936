"""What every format promises, as a property that hypothesis tries in bounded time, the same in every run."""

import time
from random import Random

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from client.testing.formats import Format
from client.testing.mutation import mutated

_MUTATED = 150
_ARBITRARY = 40
_SECONDS = 10  # of a processor; a reader that takes seconds for some bytes hangs for more of them
_BOUNDED = settings(
    derandomize=True,
    deadline=None,  # on a busy machine time passes without any work
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def check_format(format_: Format) -> None:
    """Valid documents are read; made wrong, or replaced by any bytes, they end in a documented error or in a value."""
    if not all(map(format_.try_to_read, format_.seeds)):
        raise AssertionError("a valid document is refused")
    refused = 0

    @settings(_BOUNDED, max_examples=_MUTATED)
    @given(st.integers(0, 2**32))
    def read_mutated(number: int) -> None:
        nonlocal refused
        refused += not _read(format_, mutated(Random(number), format_.seeds, format_.mutators))  # noqa: S311

    @settings(_BOUNDED, max_examples=_ARBITRARY)
    @given(st.binary(max_size=300))
    def read_arbitrary(body: bytes) -> None:
        _read(format_, body)

    read_mutated()
    read_arbitrary()
    if format_.errors and not refused:
        raise AssertionError("no document was refused: the mutations miss this format")


def _read(format_: Format, body: bytes) -> bool:
    """Whether it is a valid document, which is known soon."""
    began = time.thread_time()
    is_valid = format_.try_to_read(body)
    if time.thread_time() - began > _SECONDS:
        raise AssertionError("the reader takes too long")
    return is_valid
