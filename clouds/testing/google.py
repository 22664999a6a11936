"""What Google's store does and its emulator does not, as the treatment of a proxy in front of that.

fake-gcs-server passes over `ifGenerationMatch=0` where a body follows in a second request, as opendal sends it,
refuses a batch whose parts end without an empty line, and knows no uploads in parts. Here such a write is refused with
412 where there is an object, when it begins and when it ends (cloud.google.com/storage/docs/request-preconditions);
parts are kept until they are made an object (google_parts.py); and an access token is given for a credential, as
Google's token service gives one (RFC 8693).
"""

import base64
import json
import threading
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote

from clouds.testing.google_parts import Parts
from clouds.testing.proxy import Answer, Request

_SUBJECT, _TOKEN = "/of-the-campaign/subject", "/of-the-campaign/token"
_FOUND = 200
_TAKEN = 412


@dataclass(slots=True)
class GoogleRules:
    """Whose `answer` is the treatment."""

    _conditional: set[str] = field(default_factory=set)  # uploads, by their ids
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _parts: Parts = field(default_factory=Parts)

    @staticmethod
    def credential(endpoint: str) -> str:
        """One that opendal changes at `endpoint` for a token: workload identity (google.aip.dev/auth/4117)."""
        described = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/a-campaign",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{endpoint}{_TOKEN}",
            "credential_source": {"url": f"{endpoint}{_SUBJECT}", "format": {"type": "text"}},
        }
        return base64.b64encode(json.dumps(described).encode()).decode()

    def answer(self, request: Request) -> Answer:
        if request.path == _SUBJECT:
            return Answer.of(200, b"a subject")
        if request.path == _TOKEN:
            return _a_token()
        if request.path.startswith("/upload/"):
            return self._upload(request)
        if request.path.startswith("/batch/"):
            return _batch(request)
        if self._parts.is_for(request):
            return self._parts.answer(request)
        return request.passed_on()

    def _upload(self, request: Request) -> Answer:
        query = {name: values[0] for name, values in parse_qs(request.query).items()}
        condition = query.get("ifGenerationMatch") == "0"
        if not condition and query.get("upload_id") not in self._conditional:
            return request.passed_on()
        with self._lock:  # nobody else may come between the look and the write
            path = request.path.removeprefix("/upload") + f"/{quote(query['name'], safe='')}"
            if Request("GET", path, "", {"Host": request.server}, b"", request.server).passed_on().status == _FOUND:
                return Answer.of(_TAKEN, b'{"error": {"code": 412, "message": "conditionNotMet"}}')
            answer = request.passed_on()
            location = next((value for name, value in answer.headers.items() if name.lower() == "location"), None)
            if condition and location is not None:
                self._conditional.add(parse_qs(location.partition("?")[2])["upload_id"][0])
            return answer


def _a_token() -> Answer:
    token = {
        "access_token": "a-token",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 3600,
    }
    return Answer.of(200, json.dumps(token).encode())


def _batch(request: Request) -> Answer:
    body = request.body.replace(b" HTTP/1.1\r\n\r\n--", b" HTTP/1.1\r\n\r\n\r\n--")
    headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
    headers["Content-Length"] = str(len(body))
    return Request(request.method, request.path, request.query, headers, body, request.server).passed_on()
