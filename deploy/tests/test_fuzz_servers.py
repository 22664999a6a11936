"""What servers read from outside, beside client/tests/test_fuzz_formats.py."""

import pytest

from client.testing.formats import Format
from client.testing.fuzzing import check_format
from deploy.campaigns.formats import SERVERS


@pytest.mark.parametrize("format_", SERVERS, ids=lambda format_: format_.name)
def test_whatever_the_bytes_reading_ends_in_a_value_or_the_documented_error(format_: Format) -> None:
    check_format(format_)
