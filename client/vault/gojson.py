"""Strings as Go writes them: JSON by encoding/json, and file names by strconv.Quote.

Kept true: equal content gives equal bytes, so that trees deduplicate, with restic's too. JSON escapes `<`, `>`, `&`,
U+2028 and U+2029; what is no UTF-8 becomes U+FFFD, byte by byte. Quote escapes what Go's strconv.IsPrint calls not
printable: all but letters, marks, numbers, punctuation, symbols and the ASCII space.
"""

import json
import re
import sys
import unicodedata
from typing import Any

_quote_json = json.encoder.encode_basestring  # escapes the quote, the backslash and control characters only
_HTML = re.compile("[<>&\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN_NAME = re.compile(rb"[ !#-\[\]-~]*")
_VERBATIM_NAME = re.compile(rb"[ !#-%'-;=?-\[\]-~]*").fullmatch  # neither Quote nor JSON changes it
_SHORT = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 34: r"\"", 92: r"\\"}
_TOKEN = re.compile(
    r"""[^"\\\n]+|\\(?:([abfnrtv\\"])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))"""
)
_UNSHORT = {"a": b"\a", "b": b"\b", "f": b"\f", "n": b"\n", "r": b"\r", "t": b"\t", "v": b"\v", "\\": b"\\", '"': b'"'}


def json_string(text: str) -> str:
    """`text` as a JSON string, quotes included."""
    quoted = _quote_json(text)
    if not quoted.isascii():
        quoted = _SURROGATE.sub(r"\\ufffd", quoted)
    return _HTML.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted) if _HTML.search(quoted) else quoted


def is_printable(character: str) -> bool:
    """Go's strconv.IsPrint, by the Unicode version of this Python."""
    return character == " " or unicodedata.category(character)[0] in "LMNPS"


def quote_name(name: bytes) -> str:
    """Go's strconv.Quote without the outer quotes: what restic keeps as a node's name."""
    if _PLAIN_NAME.fullmatch(name):
        return name.decode("ascii")
    return "".join(map(_quote_character, name.decode("utf-8", "surrogateescape")))


def json_name(name: bytes) -> str:
    """A file's name as it stands in a node: quoted by `quote_name`, then as a JSON string."""
    return f'"{name.decode("ascii")}"' if _VERBATIM_NAME(name) else json_string(quote_name(name))


def _quote_character(character: str) -> str:
    code = ord(character)
    if code in _SHORT:
        return _SHORT[code]
    if _SURROGATE.match(character):  # surrogateescape: a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if is_printable(character):
        return character
    if code < 0x20 or code == 0x7F:  # noqa: PLR2004
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004


def unquote_name(text: str) -> bytes:
    """The bytes of a name that strconv.Quote wrote. Raises ValueError."""
    if "\\" not in text and '"' not in text and "\n" not in text:
        return text.encode()
    parts: list[bytes] = []
    end = 0
    for match in _TOKEN.finditer(text):
        if match.start() != end:
            break
        end = match.end()
        parts.append(_unquote_token(match))
    if end != len(text):
        raise ValueError(f"{text[:80]!r} is not quoted as Go does")
    return b"".join(parts)


def _unquote_token(match: re.Match[str]) -> bytes:
    short, byte, octal, small, large = match.groups()
    if short:
        return _UNSHORT[short]
    if byte:
        return bytes.fromhex(byte)
    if octal:
        return bytes((int(octal, 8),))  # ValueError above 0o377, as Go
    if small or large:
        code = int(small or large, 16)
        if code > sys.maxunicode:
            raise ValueError(f"{match[0]} is no character")
        return chr(code).encode()  # ValueError for a surrogate
    return match[0].encode()


class RawNumber(str):
    """A number of a JSON document as it was written, so that writing it again changes nothing."""

    __slots__ = ()


def go_json(value: Any) -> str:
    """A parsed document as Go's encoder would write it, keys in the order they were read in."""
    if isinstance(value, RawNumber):
        return str(value)
    if isinstance(value, str):
        return json_string(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "{" + ",".join(f"{json_string(key)}:{go_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(go_json, value)) + "]"
    return str(value)
