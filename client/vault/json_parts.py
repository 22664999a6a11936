"""JSON documents of which a part is decoded at a time: a folder's tree may have a million nodes.

Kept true: what is read so is what would be read of the whole document, and rubbish is refused as it would be there.
"""

import codecs
import json
from collections.abc import Iterator
from typing import Any, NoReturn

from client.errors import DamagedVault
from client.vault.blobs import Buffer

_BLANKS = " \t\n\r"  # of JSON (RFC 8259)
_BLANK = tuple(_BLANKS)
_WINDOW = 256 << 10  # bytes that are decoded at once
_VALUE_WINDOW = 4 << 10  # bytes in which a single value is looked for at first


def value_at(body: Buffer, offset: int, name: str) -> tuple[Any, int]:
    """The value that begins at `offset` of the document `name`, and where it ends. Raises DamagedVault."""
    length = _VALUE_WINDOW
    while True:
        part = body[offset : offset + length]
        is_all = offset + length >= len(body)
        try:
            text = codecs.getincrementaldecoder("utf-8")().decode(bytes(part), final=is_all)
            value, end = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError) as error:
            if is_all or isinstance(error, RecursionError):
                raise DamagedVault(name=name, detail=f"it is no JSON ({error})") from None
            length *= 8  # a large file's list of blobs
            continue
        return value, offset + len(text[:end].encode())


class LastList:
    """The items of the list that ends a JSON object, one after another; a part of its text is in memory."""

    def __init__(self, body: Buffer, offset: int, field: str, name: str) -> None:
        """It is the `field` of the object, and its items begin at `offset` of `body`; `name` is the document's."""
        self._field = field
        self._rest = memoryview(body)[offset:]
        self._name = name
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0

    def items(self) -> Iterator[Any]:
        """The items in their order. Raises DamagedVault."""
        following = self._peek()
        while following != "]":
            yield self._next_item()
            following = self._peek()
            if following == ",":
                self._at += 1
                self._peek()
            elif following != "]":
                self._refuse(f"its {self._field} are not parted by commas")
        self._end()

    def _next_item(self) -> Any:
        window = _WINDOW
        while True:
            try:
                item, self._at = self._scan(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if not self._rest or isinstance(error, RecursionError):
                    self._refuse(f"it is no JSON ({error})")
                self._read(window)
                window *= 2  # a large file's list of blobs
                continue
            return item

    def _end(self) -> None:
        """Only the end of the document, or fields that this program does not know, may come after the list."""
        self._at += 1
        self._read(len(self._rest))
        if self._text.strip(_BLANKS) == "}":
            return
        try:
            others = json.loads('{"":0' + self._text)
        except (ValueError, RecursionError) as error:
            self._refuse(f"it is no JSON ({error})")
        if self._field in others:
            self._refuse(f"it has two lists of {self._field}")

    def _peek(self) -> str:
        """The next character that is no blank, or nothing at the end of the text."""
        while True:
            while self._text[self._at : self._at + 1] in _BLANK:
                self._at += 1
            if self._at < len(self._text) or not self._rest:
                return self._text[self._at : self._at + 1]
            self._read(_WINDOW)

    def _read(self, length: int) -> None:
        part, self._rest = self._rest[:length], self._rest[length:]
        try:
            self._text = self._text[self._at :] + self._utf8.decode(part, final=not self._rest)
        except UnicodeDecodeError as error:
            self._refuse(f"it is no JSON ({error})")
        self._at = 0

    def _refuse(self, detail: str) -> NoReturn:
        raise DamagedVault(name=self._name, detail=detail)
