"""Whatever the bytes are, the reader of every format ends in what was asked for or in the error that it documents.

A longer run of the same, guided by what the readers do, is `make campaign-fuzz`.
"""

import pytest

from client.testing.formats import FORMATS, Format
from client.testing.fuzzing import check_format


@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.name)
def test_whatever_the_bytes_reading_ends_in_a_value_or_the_documented_error(format_: Format) -> None:
    check_format(format_)
