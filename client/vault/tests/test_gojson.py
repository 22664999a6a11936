import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.vault.gojson import go_json, json_string, quote_name, unquote_name
from client.vault.strict import is_quoted_as_go


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        (b"plain name.txt", "plain name.txt"),
        ("grün 日本語 \U0001f600".encode(), "grün 日本語 \U0001f600"),
        (b"\xff", r"\xff"),
        (b"a\xe2\x82", r"a\xe2\x82"),
        (b"\xed\xa0\x80", r"\xed\xa0\x80"),
        (b'"quoted"', r"\"quoted\""),
        (b"back\\slash", r"back\\slash"),
        (b"\a\b\f\n\r\t\v", r"\a\b\f\n\r\t\v"),
        (b"\x00\x1f\x7f", r"\x00\x1f\x7f"),
        ("\u200b".encode(), r"\u200b"),
        ("\u00a0".encode(), r"\u00a0"),
        ("\u00ad".encode(), r"\u00ad"),
        ("\u2028".encode(), r"\u2028"),
        ("\ufffd".encode(), "\ufffd"),
        ("\ue000".encode(), r"\ue000"),
        ("\U000e0001".encode(), r"\U000e0001"),
        ("e\u0301".encode(), "e\u0301"),
        (b"it's", "it's"),
    ],
)
def test_names_are_quoted_as_strconv_does(name: bytes, quoted: str) -> None:
    assert quote_name(name) == quoted
    assert unquote_name(quoted) == name


@given(st.binary(max_size=40) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_every_name_is_read_as_it_was_written(name: bytes) -> None:
    quoted = quote_name(name)
    assert unquote_name(quoted) == name
    assert json.loads(json_string(quoted)) == quoted
    assert is_quoted_as_go(quoted)


@given(st.text(max_size=20) | st.text('\\xuU0123456789abcdefn"', max_size=20))
def test_arbitrary_text_is_a_quoted_name_or_a_value_error(text: str) -> None:
    try:
        assert isinstance(unquote_name(text), bytes)
    except ValueError:
        return


@pytest.mark.parametrize(
    "text", ['"', "\\", r"\'", r"\x1", r"\q", r"\ud800", r"\UFFFFFFFF", r"\400", "a\nb", r"\u12", "\ud800"]
)
def test_what_strconv_would_not_write_nor_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever message
        unquote_name(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a<b>&c", r'"a\u003cb\u003e\u0026c"'),
        ("\u2028\u2029", r'"\u2028\u2029"'),
        ('"\\', r'"\"\\"'),
        ("\n\r\t\x01", r'"\n\r\t\u0001"'),
        ("grün \U0001f600 \x7f", '"grün \U0001f600 \x7f"'),
        ("bad \udcff byte", r'"bad \ufffd byte"'),
    ],
)
def test_json_strings_are_those_of_go(text: str, written: str) -> None:
    assert json_string(text) == written


def test_a_document_is_written_again_in_its_own_order() -> None:
    text = '{"b":[1,-2.50e3,true,null,"\\u003c"],"a":{}}'
    assert go_json({"b": [1, "x", True, None], "a": {}}) == '{"b":[1,"x",true,null],"a":{}}'
    assert json.loads(text)["b"][4] == "<"


@pytest.mark.parametrize(
    ("quoted", "right"),
    [
        (r"\u200b", True),
        ("\u200b", False),
        ("é", True),
        (r"\u00e9", False),
        (r"\xc3\xa9", False),
        (r"\377", False),
        ("\U0001fae0", True),  # a face of Unicode 14, which older versions of Go escape
        (r"\U0001fae0", True),
    ],
)
def test_names_quoted_otherwise_than_go_does_are_told(quoted: str, right: bool) -> None:
    assert is_quoted_as_go(quoted) is right
