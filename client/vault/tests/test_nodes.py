import json
import stat
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import DamagedVault
from client.vault.modes import (
    MODE_CHAR_DEVICE,
    MODE_DEVICE,
    MODE_DIR,
    MODE_MASK,
    MODE_SETGID,
    MODE_SETUID,
    MODE_STICKY,
    MODE_SYMLINK,
    TYPE_BITS,
    NodeType,
    go_mode,
    unix_mode,
)
from client.vault.nodes import Node, decode_tree, encode_tree, iterate_any_tree, iterate_tree, name_complaint
from client.vault.strict import tree_complaints
from client.vault.tests.builders import TIME_NS, a_node
from client.vault.tests.test_keys import JSON

IDS = st.binary(min_size=32, max_size=32)
U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
TIMES = st.integers(-(2**62), 2**62)
TEXTS = st.text(max_size=8)
ATTRIBUTE_NAMES = TEXTS.map(lambda text: text.replace("\0", "_"))  # no system takes a NUL there
NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: not name_complaint(name))


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    kind = draw(st.sampled_from(NodeType))
    is_file = kind is NodeType.FILE
    is_device = kind in (NodeType.DEV, NodeType.CHARDEV)
    return Node(
        name=draw(NAMES),
        type=kind,
        mode=draw(st.integers(0, 0o777)) | TYPE_BITS[kind] | draw(st.sampled_from([0, MODE_SETUID, MODE_STICKY])),
        mtime_ns=draw(TIMES),
        atime_ns=draw(TIMES),
        ctime_ns=draw(TIMES),
        uid=draw(U32),
        gid=draw(U32),
        user=draw(TEXTS),
        group=draw(TEXTS),
        inode=draw(U64),
        device_id=draw(U64),
        size=draw(U64) if is_file else 0,
        links=draw(U64),
        linktarget=draw(NAMES) if kind is NodeType.SYMLINK else b"",
        extended_attributes=tuple(draw(st.lists(st.tuples(ATTRIBUTE_NAMES, st.binary(max_size=8)), max_size=2))),
        device=draw(U64) if is_device else 0,
        content=tuple(draw(st.lists(IDS, max_size=3))) if is_file else None,
        subtree=draw(IDS) if kind is NodeType.DIR else None,
        error=draw(TEXTS),
    )


@given(st.lists(nodes(), max_size=5, unique_by=lambda node: node.name))
def test_a_tree_is_read_as_it_was_written_and_has_no_complaints(tree: list[Node]) -> None:
    body = encode_tree(tree)
    read = decode_tree(body)
    assert read == sorted(tree, key=lambda node: node.name)
    assert list(tree_complaints(body, read)) == []


def test_a_tree_is_written_as_restic_writes_it() -> None:
    tree = [
        a_node(b"z", NodeType.DIR, subtree=bytes(32), uid=0, gid=1, mode=MODE_DIR | MODE_STICKY | 0o777),
        a_node(
            b'x\xff\xe2\x80\x8b"<q',
            uid=1000,
            gid=100,
            content=(b"\1" * 32,),
            size=1234,
            extended_attributes=(("user.t", b"v"),),
            group="g&h",
            device_id=3,
        ),
    ]
    time = '"2014-12-06T16:30:23.34513538Z"'
    assert encode_tree(tree).decode() == (
        r'{"nodes":[{"name":"x\\xff\\u200b\\\"\u003cq","type":"file","mode":420,'
        f'"mtime":{time},"atime":{time},"ctime":{time},"uid":1000,"gid":100,"user":"fd0",'
        r'"group":"g\u0026h","inode":7,"device_id":3,"size":1234,"links":1,'
        r'"extended_attributes":[{"name":"user.t","value":"dg=="}],'
        f'"content":["{"01" * 32}"]}},'
        f'{{"name":"z","type":"dir","mode":2148532735,"mtime":{time},"atime":{time},"ctime":{time},'
        f'"uid":0,"gid":1,"user":"fd0","inode":7,"content":null,"subtree":"{"00" * 32}"}}]}}\n'
    )


def test_an_empty_directory_has_no_nodes() -> None:
    assert encode_tree([]) == b'{"nodes":[]}\n'
    assert decode_tree(b'{"nodes":null}') == []


@pytest.fixture(params=[True, False])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small trees parsed as a whole, and node by node as large ones are."""
    if not request.param:
        monkeypatch.setattr("client.vault.nodes._AT_ONCE", 0)


@pytest.mark.usefixtures("at_once")
def test_a_name_that_looks_like_the_list_of_nodes_is_a_name() -> None:
    tree = [a_node(b'"nodes"'), a_node(b"nodes"), a_node(b"nodes:[")]
    assert decode_tree(encode_tree(tree)) == tree


@pytest.mark.parametrize("names", [[b"a", b"a"], [b""], [b"."], [b".."], [b"a/b"], [b"a\0b"]])
def test_names_that_must_not_stand_in_a_tree_are_not_written(names: list[bytes]) -> None:
    with pytest.raises(ValueError, match="a node named"):
        encode_tree([a_node(name) for name in names])


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../etc/passwd", r"a\x00b", r"a\q", '\\"'[1:]])
def test_names_that_lead_out_of_the_target_are_not_read(name: str) -> None:
    with pytest.raises(DamagedVault):
        decode_tree(json.dumps({"nodes": [{"name": name, "type": "file"}]}).encode())


def test_a_name_that_comes_twice_is_not_read() -> None:
    link = {"name": "a", "type": "symlink", "linktarget": "/etc"}
    with pytest.raises(DamagedVault, match="two nodes"):
        decode_tree(json.dumps({"nodes": [link, {"name": "a", "type": "dir"}]}).encode())


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "symlink", "linktarget_raw": "YQBi"},
        {"type": "symlink", "linktarget": "a\0b"},
        {"type": "file", "extended_attributes": [{"name": "user.\0", "value": ""}]},
        {"type": "file", "extended_attributes": [{"name": "user.\ud800", "value": ""}]},
    ],
)
def test_what_no_system_takes_is_not_read(fields: dict[str, object]) -> None:
    with pytest.raises(DamagedVault):
        decode_tree(json.dumps({"nodes": [{"name": "a"} | fields]}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"nodes":[]}{"nodes":[]}',
        b'{"nodes":[],"nodes":[]}',
        b'{"nodes":[]',
        b'{"nodes":[],"later":[}',
        b'{"nodes":[{"name":"a","type":"dir"} {"name":"b","type":"dir"}]}',
        b'{"nodes":[{"name":"a","type":"dir"},]}',
        b'{"nodes":[null,{"name":"a","type":"dir"}]}',
    ],
)
@pytest.mark.usefixtures("at_once")
def test_a_tree_that_does_not_end_with_its_nodes_is_damaged(body: bytes) -> None:
    with pytest.raises(DamagedVault):
        list(iterate_tree(body))
    with pytest.raises(DamagedVault):
        decode_tree(body)


@pytest.mark.usefixtures("at_once")
def test_blanks_and_fields_after_the_nodes_are_read() -> None:
    one, other = (f'{{"name":"{name}","type":"dir"}}' for name in "ab")
    for text in ('{"nodes":[ ' + one + "\n,\t" + other + ' ] ,"later": {} } ', '{"nodes":[' + one + "," + other + "]}"):
        assert decode_tree(text.encode()) == [Node(b"a", NodeType.DIR), Node(b"b", NodeType.DIR)]


def test_unknown_fields_and_other_zones_are_read() -> None:
    fields = {"name": "a", "type": "file", "mtime": "2014-12-06T17:30:23.34513538+01:00", "future": [{}]}
    (node,) = decode_tree(json.dumps({"nodes": [fields], "later": 1}).encode())
    assert (node.mtime_ns, node.content) == (TIME_NS, None)


FIELDS = st.fixed_dictionaries(
    {"name": st.just("a") | JSON, "type": st.sampled_from(["file", "dir", "symlink"]) | JSON},
    optional=dict.fromkeys(
        (
            *("mode", "mtime", "uid", "user", "size", "linktarget", "linktarget_raw"),
            *("extended_attributes", "content", "subtree", "error"),
        ),
        JSON,
    ),
)


@given(
    st.binary(max_size=60)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.lists(FIELDS | JSON, max_size=2).map(lambda value: json.dumps({"nodes": value}).encode())
)
def test_arbitrary_bytes_are_a_tree_or_damaged(body: bytes) -> None:
    try:
        for node in decode_tree(body):
            assert node.name
    except DamagedVault:
        return


USUAL = json.loads(encode_tree([a_node(b"a")]))["nodes"][0]
NUMBERS = [0, 1, -1, 2**32 - 1, 2**32, 2**64 - 1, 2**64, 1.0, True, None, "1"]
MOMENTS = [
    *("", "2014-12-06T16:30:23.5Z", "2014-12-06T16:30:23Z", "2014-12-06T17:30:23.5+01:00", "2014-12-06"),
    *("2014-12-06T16:30:23.Z", "2014-12-06T16:30:23.1234567890Z", "2014-13-06T16:30:23.5Z"),
    *("2014-12-06T16:30:2\u0663.5Z", "2014-12-06T16:30:23.\u0663Z", None, 7),
]
HEX = ["ab" * 32, "AB" * 32, "ab " * 32, "ab" * 31, "", None, 7]
WORDS = ["", "eA==", "a", "\0", None, 7]
UNUSUAL: dict[str, list[Any]] = {
    "name": ["a", "\u00e4", "\\xff", "\\", ".", "..", "a/b", "", "\0", "\ud800", "\udc80", None],
    "type": ["file", "dir", "symlink", "other", None],
    **dict.fromkeys(("mode", "uid", "gid", "inode", "device_id", "size", "links", "device"), NUMBERS),
    **dict.fromkeys(("mtime", "atime", "ctime"), MOMENTS),
    **dict.fromkeys(("user", "group", "error", "linktarget", "linktarget_raw"), WORDS),
    "content": [None, [], *([digits] for digits in HEX)],
    "subtree": HEX,
    "extended_attributes": [[], None, [{"name": "user.a", "value": "eA=="}], [{}], [7]],
    "future": [None],
}
NEARLY_USUAL = st.lists(
    st.sampled_from([(field, value) for field, values in UNUSUAL.items() for value in values]), max_size=2
).map(lambda changes: USUAL | dict(changes))


@given(st.lists(NEARLY_USUAL, max_size=3), st.booleans())
def test_a_tree_says_the_same_at_once_and_field_by_field(nodes: list[dict[str, object]], is_ascii: bool) -> None:
    text = json.dumps({"nodes": nodes}, ensure_ascii=is_ascii, separators=(",", ":"))
    body = text.encode(errors="surrogatepass")
    assert read_or_complaint(iterate_tree, body) == read_or_complaint(iterate_any_tree, body)


def read_or_complaint(read: Callable[[bytes], Iterable[Node]], body: bytes) -> list[Node] | str:
    try:
        return list(read(body))
    except DamagedVault as error:
        return str(error)


def test_what_most_nodes_are_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = [a_node(b"a"), a_node(b"b \xc3\xa4"), a_node(b'c"\xff')]
    body = encode_tree(tree)
    monkeypatch.setattr("client.vault.nodes.Document", None)
    assert decode_tree(body) == tree


def test_deep_nesting_is_damaged() -> None:
    with pytest.raises(DamagedVault):
        decode_tree(b'{"nodes":' + b"[" * 100_000)


@pytest.mark.parametrize(
    ("unix", "go"),
    [
        (0o100644, 0o644),
        (0o104755, MODE_SETUID | 0o755),
        (0o102755, MODE_SETGID | 0o755),
        (0o041777, MODE_DIR | MODE_STICKY | 0o777),
        (0o120777, MODE_SYMLINK | 0o777),
        (0o060660, MODE_DEVICE | 0o660),
        (0o020666, MODE_DEVICE | MODE_CHAR_DEVICE | 0o666),
        (0o010600, 1 << 25 | 0o600),
        (0o140755, 1 << 24 | 0o755),
    ],
)
def test_modes_are_translated_both_ways(unix: int, go: int) -> None:
    assert go_mode(unix) == go
    assert unix_mode(go) == unix


@given(st.sampled_from([0o10, 0o2, 0o4, 0o6, 0o1, 0o12, 0o14]), st.integers(0, 0o7777))
def test_every_mode_survives(kind: int, permissions: int) -> None:
    mode = {0o10: stat.S_IFREG, 0o2: stat.S_IFCHR, 0o4: stat.S_IFDIR, 0o6: stat.S_IFBLK}.get(kind)
    st_mode = (mode or {0o1: stat.S_IFIFO, 0o12: stat.S_IFLNK, 0o14: stat.S_IFSOCK}[kind]) | permissions
    assert unix_mode(go_mode(st_mode)) == st_mode
    assert go_mode(st_mode) & ~MODE_MASK == 0
