from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import InvalidArgument
from services.common.identity import Instance
from services.common.messages import (
    datetime_of,
    optional_timestamp_of,
    optional_uuid_of,
    timestamp_of,
    uuid_of,
)
from services.common.paging import DEFAULT_SIZE, MAX_SIZE, page_of, token_of


@dataclass
class Request:
    page_size: int = 0
    page_token: str = ""


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001 - bounds are naive in hypothesis
def test_times_pass_through_messages_unchanged(moment: datetime) -> None:
    assert datetime_of(timestamp_of(moment), "t") == moment


def test_times_of_other_zones_become_utc() -> None:
    moment = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert datetime_of(timestamp_of(moment), "t") == moment
    assert optional_timestamp_of(None) is None


@pytest.mark.parametrize("message", [Timestamp(seconds=1 << 60), Timestamp(seconds=-(1 << 60)), Timestamp(nanos=-1)])
def test_times_that_are_none_are_refused(message: Timestamp) -> None:
    with pytest.raises(InvalidArgument, match="begun is not a valid time"):
        datetime_of(message, "begun")


def test_ids_have_one_form() -> None:
    text = "01890a5d-ac96-774b-bcce-b302099a8057"
    assert uuid_of(text, "id") == UUID(text)
    assert optional_uuid_of("", "id") is None
    for bad in ("", "x", text[:-1], text.replace("-", ""), "{" + text[:-2] + "}", "z" * 36):
        with pytest.raises(InvalidArgument, match="id is not a UUID"):
            uuid_of(bad, "id")


@given(st.lists(st.text().filter(str.isprintable), min_size=1, max_size=3))
def test_a_page_token_gives_back_its_key(key: list[str]) -> None:
    assert page_of(Request(page_token=token_of(key)), parts=len(key)).after == tuple(key)


def test_page_sizes_are_clamped() -> None:
    assert page_of(Request()).size == DEFAULT_SIZE
    assert page_of(Request(-5)).size == DEFAULT_SIZE
    assert page_of(Request(1 << 30)).size == MAX_SIZE
    assert page_of(Request(7)).limit == 8


@pytest.mark.parametrize(
    "token", ["x", "é", "bm9uc2Vuc2U=", "e30=", "WzFd", "WyJhIiwiYiJd", token_of(["a\0b"]), token_of(["\ud800"])]
)
def test_tokens_that_no_list_gave_are_refused(token: str) -> None:
    with pytest.raises(InvalidArgument):
        page_of(Request(page_token=token))


def test_a_page_is_cut_from_one_row_too_many() -> None:
    page = page_of(Request(2))
    assert page.cut(["a", "b", "c"], list) == (["a", "b"], token_of(["b"]))
    assert page.cut(["a", "b"], list) == (["a", "b"], "")
    assert page.cut([], list) == ([], "")


@pytest.mark.parametrize(
    "uri", ["https://auth/a", "oort://auth", "oort:///a", "oort://auth/a/b", "oort://auth/a?x", "oort://auth/a#x", ""]
)
def test_what_names_no_instance_is_none(uri: str) -> None:
    assert Instance.parse(uri) is None
    assert Instance.parse("oort://auth/a-1") == Instance("auth", "a-1")
