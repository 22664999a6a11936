"""What Azure's and Google's stores answer, and opendal makes an error of, as clients and nodes are told of it."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import opendal
import pytest

from clouds.calls import Calls, Patience
from clouds.failures import Failure, Trouble, read_failure
from clouds.operations import SETTINGS, listing
from clouds.testing.answers import Answers, answering

if TYPE_CHECKING:
    from clouds.operator import Operator

CREDENTIAL = {
    "type": "external_account",
    "audience": "//x",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}
SUBJECT = b"a subject"
TOKEN = json.dumps({"access_token": "a-token", "token_type": "Bearer", "expires_in": 3600}).encode()


@pytest.fixture
def server() -> Iterator[Answers]:
    with answering() as server:
        yield server


def azure(server: Answers) -> "Operator":
    endpoint = f"http://127.0.0.1:{server.server_port}"
    return opendal.AsyncOperator(
        "azblob",
        container="container",
        endpoint=endpoint,
        account_name="account",
        account_key="enF4",
        **SETTINGS["azblob"],
    )


def google(server: Answers) -> "Operator":
    endpoint = f"http://127.0.0.1:{server.server_port}"
    source = {"url": f"{endpoint}/subject", "format": {"type": "text"}}
    return with_credential(server, CREDENTIAL | {"token_url": f"{endpoint}/token", "credential_source": source})


def with_credential(server: Answers, described: Mapping[str, object]) -> "Operator":
    credential = base64.b64encode(json.dumps(described).encode()).decode()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    return opendal.AsyncOperator("gcs", bucket="bucket", endpoint=endpoint, credential=credential, **SETTINGS["gcs"])


def failure_of(operator: "Operator", call: "Callable[[Operator], Awaitable[object]]") -> Failure:
    async def called() -> None:
        await call(operator)

    with pytest.raises(Exception) as caught:  # noqa: PT011 - opendal's have no class of their own
        asyncio.run(called())
    return read_failure(caught.value)


def reads(operator: "Operator") -> Awaitable[object]:
    return operator.read("x", offset=8, size=4)


def creates(operator: "Operator") -> Awaitable[object]:
    return operator.write("x", b"body", if_not_exists=True)


@pytest.mark.parametrize(
    ("scheme", "settings", "said"),
    [
        ("webdav", {"username": "user", "password": "password"}, "this user with this password"),
        ("swift", {"container": "container", "token": "token"}, "this token"),
        ("azblob", {"container": "container", "account_name": "account", "account_key": "enF4"}, "this account"),
        ("s3", {"bucket": "b", "region": "r", "access_key_id": "k", "secret_access_key": "s"}, "this access key"),
    ],
)
def test_a_login_that_is_refused_is_called_what_the_kind_of_store_calls_it(
    server: Answers, scheme: str, settings: Mapping[str, str], said: str
) -> None:
    server.say(401)
    endpoint = f"http://127.0.0.1:{server.server_port}"
    operator = opendal.AsyncOperator(scheme, endpoint=endpoint, **settings, **SETTINGS.get(scheme, {}))
    failure = failure_of(operator, reads)
    assert failure.trouble is Trouble.REFUSED
    assert said in failure.said
    assert "key" not in failure.said or scheme in ("s3", "azblob")


@pytest.mark.parametrize(
    ("status", "code", "call", "trouble"),
    [
        (404, "BlobNotFound", reads, Trouble.MISSING),
        (404, "ContainerNotFound", reads, Trouble.REFUSED),
        (416, "InvalidRange", reads, Trouble.SHORT),
        (403, "AuthenticationFailed", reads, Trouble.REFUSED),
        (503, "ServerBusy", reads, Trouble.BUSY),
        (409, "BlobAlreadyExists", creates, Trouble.EXISTS),
        (409, "BlobImmutableDueToPolicy", creates, Trouble.REFUSED),
        (409, "ContainerBeingDeleted", creates, Trouble.REFUSED),
        (404, "ContainerNotFound", creates, Trouble.REFUSED),
    ],
)
def test_what_azure_answers(
    server: Answers, status: int, code: str, call: "Callable[[Operator], Awaitable[object]]", trouble: Trouble
) -> None:
    server.say(status, code)
    failure = failure_of(azure(server), call)
    assert failure.trouble is trouble
    assert "{" not in failure.said


@pytest.mark.parametrize(
    ("status", "call", "trouble"),
    [
        (404, reads, Trouble.MISSING),
        (416, reads, Trouble.SHORT),
        (403, reads, Trouble.REFUSED),
        (429, reads, Trouble.BUSY),
        (503, reads, Trouble.BUSY),
        (412, creates, Trouble.EXISTS),
        (404, creates, Trouble.MISSING),
    ],
)
def test_what_google_answers(
    server: Answers, status: int, call: "Callable[[Operator], Awaitable[object]]", trouble: Trouble
) -> None:
    server.say(200, body=SUBJECT)
    server.say(200, body=TOKEN)
    server.say(status, body=json.dumps({"error": {"code": status, "message": "no", "errors": []}}).encode())
    failure = failure_of(google(server), call)
    assert failure.trouble is trouble
    assert "{" not in failure.said


@pytest.mark.parametrize(
    ("status", "reason", "trouble"),
    [
        (403, "rateLimitExceeded", Trouble.BUSY),
        (403, "userRateLimitExceeded", Trouble.BUSY),
        (408, "", Trouble.BUSY),
        (403, "retentionPolicyNotMet", Trouble.REFUSED),
    ],
)
def test_why_google_refuses(server: Answers, status: int, reason: str, trouble: Trouble) -> None:
    detail = {"domain": "global", "reason": reason, "message": "no", "location": "x", "locationType": "x"}
    server.say(200, body=SUBJECT)
    server.say(200, body=TOKEN)
    server.say(status, body=json.dumps({"error": {"code": status, "message": "no", "errors": [detail]}}).encode())
    failure = failure_of(google(server), creates)
    assert failure.trouble is trouble
    assert ("a rule of the store" in failure.said) == (reason == "retentionPolicyNotMet")


@pytest.mark.parametrize("status", [401, 503])
def test_a_token_that_does_not_come_may_come_later(server: Answers, status: int) -> None:
    server.say(200, body=SUBJECT)
    server.say(status, body=b"{}")
    failure = failure_of(google(server), reads)
    assert (failure.trouble, failure.passes) == (Trouble.UNREACHED, True)
    assert "no token comes for the credential" in failure.said


def a_page(name: str, following: str) -> bytes:
    known = (
        "<Last-Modified>Fri, 27 Nov 2026 18:00:00 GMT</Last-Modified><Etag>x</Etag><Content-Length>4</Content-Length>"
    )
    blob = f"<Blob><Name>data/{name}</Name><Properties>{known}</Properties></Blob>"
    return (
        f"<EnumerationResults><Blobs>{blob}</Blobs><NextMarker>{following}</NextMarker></EnumerationResults>".encode()
    )


@pytest.mark.parametrize(("status", "code"), [(404, "ContainerNotFound"), (403, "AuthorizationFailure"), (200, "")])
def test_a_list_of_azures_is_whole_or_a_failure(server: Answers, status: int, code: str) -> None:
    operator = azure(server)
    with closing(Calls(replace(Patience(), total=0, new=0))) as calls:
        server.say(200, body=a_page("one", "the next"))
        server.say(200, body=a_page("two", ""))
        found = calls.begin(lambda: listing("data/")(operator)).result(60)
        assert [entry.path for entry in found] == ["data/one", "data/two"]
        server.answers.clear()
        server.say(200, body=a_page("one", "the next"))
        server.say(status, code)
        with pytest.raises(Failure):
            calls.begin(lambda: listing("data/")(operator)).result(60)


def test_a_key_that_cannot_be_read_is_refused(server: Answers) -> None:
    described = {"type": "service_account", "client_email": "node@example.org", "private_key": "zqx-secret"}
    failure = failure_of(with_credential(server, described), reads)
    assert failure.trouble is Trouble.REFUSED
    assert "look at the credential" in failure.said
    assert "zqx" not in failure.said
