"""Calls to the auth role: TLS under one CA, the session's token, refusals in the client's words.

Kept true: every call has a deadline; a session that is gone is renewed by the device's key once, and by nothing else.
"""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self, TypeVar

import grpc

from client.errors import (
    AccountError,
    AppendOnly,
    NameTaken,
    NotFound,
    NotLoggedIn,
    OortError,
    ServerError,
    ServerUnreachable,
    UntrustedServer,
    UsageError,
    WrongPassword,
)
from client.rpc import Metadata, Pacing, Refusal, explain_outage, read_refusal, split_endpoint, tls_channel

Request_contra = TypeVar("Request_contra", contravariant=True)
Response_co = TypeVar("Response_co", covariant=True)
Listing = TypeVar("Listing", bound="ListRequest")
Listed = TypeVar("Listed", bound="Page")

CALL_SECONDS = 30.0
PATIENCE_SECONDS = 5.0
PAGE = 500  # entries of a list that are asked for at once
_OUTAGE_SECONDS = 10.0  # after an outage the next calls fail at once, so that what can do without auth goes on


# Auth does not answer: it is down, or something else (a hotel's portal, say) answers in its place.
OUT_OF_REACH = (ServerUnreachable, UntrustedServer)


class Refused(Exception):
    """Auth has answered no; `error` says it to a person."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Method(Protocol[Request_contra, Response_co]):
    """A unary method of a generated stub."""

    def __call__(self, request: Request_contra, /, timeout: float | None, metadata: Metadata) -> Response_co: ...


class ListRequest(Protocol):
    """Asks for one page of a list."""

    page_size: int
    page_token: str


class Page(Protocol):
    """One page of a list; the token is empty with the last."""

    @property
    def next_page_token(self) -> str: ...


class Connection:
    """A connection to the auth role. May be used from several threads.

    Args:
        server: host:port of the public listener.
        ca_pem: what its certificate must be signed by.
        ca_file: where that was read, for messages.
        token: the present session's token, or nothing.
        renew: given the token that was refused, gets another by the device's key. Raises NotLoggedIn.
        pacing: for how long an outage is waited out.
    """

    def __init__(
        self,
        server: str,
        ca_pem: bytes,
        ca_file: str,
        *,
        token: str = "",
        renew: Callable[["Connection", str], str] | None = None,
        pacing: Pacing | None = None,
    ) -> None:
        split_endpoint(server)
        self.server = server
        self._ca_pem = ca_pem
        self._ca_file = ca_file
        self._token = token
        self._renew = renew
        self._pacing = pacing or Pacing(PATIENCE_SECONDS, longest_pause=1.0)
        self._outage: tuple[float, OortError] | None = None
        self.channel = tls_channel(server, ca_pem)

    def call(
        self, method: Method[Request_contra, Response_co], request: Request_contra, *, repeatable: bool = True
    ) -> Response_co:
        """Call as this session. Raises OortError; `repeatable` says that an outage may be waited out."""
        try:
            return self.ask(method, request, repeatable=repeatable)
        except Refused as refused:
            raise translate(refused.refusal, self.server) from None

    def pages(self, method: Method[Listing, Listed], request: Listing) -> Iterator[Listed]:
        """A list page by page, by `call`; `request` is changed for each, and may say the size of one."""
        request.page_size = request.page_size or PAGE
        while True:
            page = self.call(method, request)
            yield page
            if not page.next_page_token:
                return
            if page.next_page_token == request.page_token:
                raise ServerError(detail=f"{self.server} sends the same page of a list for ever")
            request.page_token = page.next_page_token

    def ask(
        self, method: Method[Request_contra, Response_co], request: Request_contra, *, repeatable: bool = True
    ) -> Response_co:
        """Like `call`, but a refusal is raised as Refused, for those who handle its reason."""
        try:
            return self._send(method, request, self._token, repeatable=repeatable)
        except Refused as refused:
            if refused.refusal.reason != "NOT_SIGNED_IN":
                raise
        if self._renew is None:
            raise NotLoggedIn
        self._token = self._renew(self, self._token)
        return self._send(method, request, self._token, repeatable=repeatable)

    def ask_as_nobody(
        self, method: Method[Request_contra, Response_co], request: Request_contra, *, repeatable: bool = True
    ) -> Response_co:
        """A call that needs no session. Raises Refused, and OortError when there is no answer."""
        return self._send(method, request, "", repeatable=repeatable)

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(
        self, method: Method[Request_contra, Response_co], request: Request_contra, token: str, *, repeatable: bool
    ) -> Response_co:
        metadata: Metadata = (("authorization", f"Bearer {token}"),) if token else ()
        give_up = self._pacing.monotonic() + self._pacing.patience
        attempt = 0
        if self._outage is not None and self._pacing.monotonic() - self._outage[0] < _OUTAGE_SECONDS:
            raise self._outage[1]
        while True:
            try:
                answer = method(request, timeout=CALL_SECONDS, metadata=metadata)
                self._outage = None
                return answer  # noqa: TRY300 - in the loop there is no other way out
            except grpc.RpcError as error:
                refusal = read_refusal(error)
            if not refusal.is_outage:
                raise Refused(refusal)
            is_last = not repeatable or self._pacing.monotonic() >= give_up or refusal.reason == "STORAGE_UNAVAILABLE"
            if refusal.reason:
                if is_last:
                    raise Refused(refusal)
            elif is_last or attempt == 0:
                outage = explain_outage(self.server, self._ca_pem, self._ca_file, refusal.message)
                if is_last or isinstance(outage, UntrustedServer):
                    self._outage = (self._pacing.monotonic(), outage)
                    raise outage
            attempt += 1
            self._pacing.pause(attempt)


def translate(refusal: Refusal, server: str) -> OortError:
    """Auth's refusal as an error for a person: its own sentence, under the right exit code."""
    said = " ".join(refusal.message.split()) or refusal.code.name
    kinds: dict[str, type[OortError]] = {
        "TOO_MANY_ATTEMPTS": AccountError,
        "SUSPENDED": AccountError,
        "NAME_TAKEN": NameTaken,
        "BAD_NAME": UsageError,
        "INVALID_ARGUMENT": UsageError,
        "NODE_NEEDED": UsageError,
        "NOT_FOUND": NotFound,
        "NO_SUCH_TEMPLATE": NotFound,
    }
    if refusal.reason == "WRONG_CREDENTIALS":
        return WrongPassword()
    if refusal.reason == "APPEND_ONLY":
        return AppendOnly(place="The account")
    if refusal.reason in ("NOT_SIGNED_IN", "DEVICE_UNKNOWN"):
        return NotLoggedIn()
    if refusal.reason in kinds:
        return kinds[refusal.reason](detail=said)
    return ServerError(detail=f"{server} refused the call: {said}")
