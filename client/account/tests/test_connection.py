"""Lists of auth's, page by page."""

from collections.abc import Callable, Iterator, Sequence

import pytest
from oort.auth.v1.jobs_pb2 import ListJobsRequest, ListJobsResponse

from client.account.connection import PAGE, Connection
from client.errors import ServerError
from client.rpc import Metadata

Asked = list[tuple[int, str]]


@pytest.fixture
def connection() -> Iterator[Connection]:
    with Connection("auth.example:8060", b"", "ca.pem") as connection:
        yield connection


def answering(tokens: Sequence[str], asked: Asked) -> Callable[..., ListJobsResponse]:
    """A method that answers with these tokens, one after another, of the page that comes next."""

    def method(request: ListJobsRequest, *, timeout: float | None, metadata: Metadata) -> ListJobsResponse:  # noqa: ARG001 - a stub's
        asked.append((request.page_size, request.page_token))
        return ListJobsResponse(next_page_token=tokens[len(asked) - 1])

    return method


def test_a_list_is_asked_for_to_its_last_page(connection: Connection) -> None:
    asked: Asked = []
    pages = list(connection.pages(answering(["one", "two", ""], asked), ListJobsRequest()))
    assert len(pages) == 3
    assert asked == [(PAGE, ""), (PAGE, "one"), (PAGE, "two")]


def test_pages_are_as_large_as_is_asked_for_and_no_more_come_than_are_taken(connection: Connection) -> None:
    asked: Asked = []
    next(connection.pages(answering(["one"], asked), ListJobsRequest(page_size=7)))
    assert asked == [(7, "")]


def test_a_page_that_comes_for_ever_is_refused(connection: Connection) -> None:
    with pytest.raises(ServerError, match="the same page of a list for ever"):
        list(connection.pages(answering(["one", "one"], []), ListJobsRequest()))
