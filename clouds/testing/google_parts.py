"""Uploads in parts, which Google's store has by its XML API and its emulator has not.

As cloud.google.com/storage/docs/multipart-uploads has it: an object is there when its parts were made one, and nothing
of it before.
"""

import secrets
import threading
from dataclasses import dataclass, field
from hashlib import md5
from urllib.parse import parse_qs, quote, unquote

from clouds.testing.proxy import Answer, Request


@dataclass(slots=True)
class Parts:
    """What has come of each upload, by its id and the part's number."""

    _uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @staticmethod
    def is_for(request: Request) -> bool:
        asked = _query(request)
        return ("uploads" in asked and request.method == "POST") or "uploadId" in asked

    def answer(self, request: Request) -> Answer:
        asked = _query(request)
        bucket, _, name = request.path.lstrip("/").partition("/")
        if "uploads" in asked:
            return self._begun(request, bucket)
        with self._lock:
            parts = self._uploads.get(asked["uploadId"])
            if parts is None:
                return Answer.refusal(404, "NoSuchUpload")
            if request.method == "PUT":
                parts[int(asked["partNumber"])] = request.body
                etag = f'"{md5(request.body, usedforsecurity=False).hexdigest()}"'
                return Answer(200, headers={"ETag": etag})
            del self._uploads[asked["uploadId"]]
        if request.method == "DELETE":
            return Answer.of(204)
        return _made(request, bucket, unquote(name), b"".join(parts[number] for number in sorted(parts)))

    def _begun(self, request: Request, bucket: str) -> Answer:
        there = Request("GET", f"/storage/v1/b/{bucket}", "", {"Host": request.server}, b"", request.server)
        if there.passed_on().status == 404:  # noqa: PLR2004 - as HTTP has it
            return Answer.refusal(404, "NoSuchBucket")
        upload = secrets.token_hex(8)
        with self._lock:
            self._uploads[upload] = {}
        told = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        return Answer.of(200, told.encode())


def _made(request: Request, bucket: str, name: str, body: bytes) -> Answer:
    headers = {"Host": request.server, "Content-Length": str(len(body)), "Content-Type": "application/octet-stream"}
    path, query = f"/upload/storage/v1/b/{bucket}/o", f"uploadType=media&name={quote(name, safe='')}"
    answer = Request("POST", path, query, headers, body, request.server).passed_on()
    done = b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"
    return Answer.of(200, done) if answer.status == 200 else answer  # noqa: PLR2004 - as HTTP has it


def _query(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
