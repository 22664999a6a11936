"""What every format promises, as a property that hypothesis tries in bounded time, the same in every run."""

from random import Random

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from client.testing.formats import Format
from client.testing.mutation import mutated

_MUTATED = 150
_ARBITRARY = 40
_BOUNDED = settings(
    derandomize=True,
    deadline=None,  # `try_to_read` has one of its own
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
        refused += not format_.try_to_read(mutated(Random(number), format_.seeds, format_.mutators))  # noqa: S311

    @settings(_BOUNDED, max_examples=_ARBITRARY)
    @given(st.binary(max_size=300))
    def read_arbitrary(body: bytes) -> None:
        format_.try_to_read(body)

    read_mutated()
    read_arbitrary()
    if format_.errors and not refused:
        raise AssertionError("no document was refused: the mutations miss this format")
