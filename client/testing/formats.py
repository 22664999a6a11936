"""Every format that the client reads, with valid documents to begin from and the errors that reading may end with.

Kept true: `read` returns, or raises one of `errors`, whatever the bytes are; anything else is a finding. What is read
is put to the use that it is read for as far as that needs no disk and no server, since a value that breaks there was
not read well. Secrets are known here, so that what lies inside of seals is reached too.
"""

import os
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from oort.auth.v1 import jobs_pb2
from oort.storage.v1 import objects_pb2

from client.account import recovery
from client.account.home import Account
from client.account.job_record import JobCounts, JobRecord, LogEntry, VaultEnd
from client.account.seals import Sealer, SealPurpose
from client.account.vaults import SealFile
from client.errors import BadRecoveryCode, BrokenSeal, DamagedVault, UsageError
from client.restore.patterns import Includes
from client.rpc import read_details, split_endpoint
from client.stores.node.wire import decode_get
from client.testing.mutation import Mutator, mutate_bytes, mutate_json, mutate_keys
from client.vault.blobs import BlobKind, PackEntry, blob_id
from client.vault.gojson import quote_name, unquote_name
from client.vault.index_files import IndexedPack, IndexFile, decode_index_file, encode_index_file
from client.vault.keys import DataKeys, ScryptCost, create_key_file, parse_master, read_key_file
from client.vault.locks import Lock, decode_lock, encode_lock
from client.vault.modes import NodeType, go_mode
from client.vault.nodes import Node, decode_tree, encode_tree, iterate_any_tree, iterate_tree
from client.vault.packs import decode_header, encode_header, parse_pack
from client.vault.repository import Config, decode_config, encode_config, open_unpacked
from client.vault.sealing import MAX_BLOB, compress, decompress, open_blob
from client.vault.snapshots import Snapshot, decode_snapshot, encode_snapshot, newest_first
from client.vault.times import format_time, parse_time
from domain.names import BadName, ObjectKind, ObjectName

KEYS = DataKeys(bytes(range(32)), bytes(range(32, 48)), bytes(range(48, 64)))
_USER = UUID(int=7)
_SEALER = Sealer(bytes(range(32)), _USER)
_TIME_NS = 1_417_883_423_345_135_380
_NUL = "\0"
_TEXTUAL: tuple[Mutator, ...] = (mutate_json, mutate_json, mutate_json, mutate_keys, mutate_bytes)
_BINARY: tuple[Mutator, ...] = (mutate_bytes,)
_PACK = ObjectName(ObjectKind.PACK, "ab" * 32)
_HOLE = 1 << 20
LONGEST_SECONDS = 10  # of the processor for one document


@dataclass(frozen=True, slots=True)
class Format:
    """`seeds` are documents that are read without an error."""

    name: str
    read: Callable[[bytes], object]
    seeds: Sequence[bytes]
    errors: tuple[type[Exception], ...] = (DamagedVault,)
    mutators: Sequence[Mutator] = _TEXTUAL

    def try_to_read(self, body: bytes) -> bool:
        """Whether `body` is a valid document. What is no documented error is raised.

        So is AssertionError for one that takes longer than any may: what takes seconds for some bytes hangs for more of
        them. It is the processor's time that counts, as others may have the processor for that long.
        """
        is_valid, began = True, time.thread_time()
        try:
            self.read(body)
        except self.errors:
            is_valid = False
        if time.thread_time() - began > LONGEST_SECONDS:
            raise AssertionError(f"a document took more than {LONGEST_SECONDS} seconds")
        return is_valid


# The vault


def _read_tree(body: bytes) -> None:
    """All readers of trees say the same, and what they read is safe to make on a disk."""
    nodes = _nodes(iterate_tree, body)
    if nodes != _nodes(iterate_any_tree, body):
        raise AssertionError("a tree says something else field by field")
    is_double = nodes is not None and len({node.name for node in nodes}) < len(nodes)
    if _nodes(decode_tree, body) != (None if is_double else nodes):
        raise AssertionError("a tree is whole to one reader and damaged to the other")
    read = decode_tree(body)
    for node in read:
        _use_node(node)
    encode_tree(read)


def _nodes(read: Callable[[bytes], Iterable[Node]], body: bytes) -> list[Node] | None:
    """What is read; None if it is damaged."""
    try:
        return list(read(body))
    except DamagedVault:
        return None


def _use_node(node: Node) -> None:
    os.fsdecode(node.name)
    if b"\0" in node.linktarget + node.name:
        raise AssertionError("a NUL in a name or target")
    for name, _value in node.extended_attributes:
        if _NUL in os.fsencode(name).decode("latin-1"):
            raise AssertionError("a NUL in the name of an attribute")
    format_time(node.mtime_ns)


def _read_snapshot(body: bytes) -> None:
    snapshot = decode_snapshot(body, "ab" * 32)
    newest_first([snapshot, snapshot])
    format_time(snapshot.time_ns)
    encode_snapshot(snapshot)
    _ = snapshot.item, snapshot.device, f"{snapshot.time:%Y-%m-%d %H:%M:%S}"


def _read_key_file(body: bytes) -> None:
    """Parameters of any size are refused or affordable; a cheap one is carried out."""
    key_file = read_key_file(body)
    if key_file.cost.n * key_file.cost.r * key_file.cost.p <= 1 << 10:
        key_file.open("password")


def _read_blob(body: bytes) -> None:
    """Bytes 0 to 4 are the length that is announced, byte 4 the kind, the rest what the seal holds."""
    announced, kind = struct.unpack("<IB", body[:5].ljust(5, b"\0"))
    sealed = KEYS.seal(body[5:])
    entry = PackEntry(blob_id(b""), (BlobKind.DATA, BlobKind.TREE)[kind & 1], 0, len(sealed), announced)
    open_blob(KEYS, entry, sealed)


def _read_frame(body: bytes) -> None:
    """As much is asked for as the largest blob has; a hole of a megabyte may come out of few bytes."""
    if len(decompress(body, MAX_BLOB, "frame")) > max(_HOLE, MAX_BLOB):
        raise AssertionError("more came out of a frame than was allowed")


def _read_unpacked(body: bytes) -> None:
    open_unpacked(KEYS, KEYS.seal(body), "document")


def _read_time(body: bytes) -> None:
    format_time(parse_time(body.decode("utf-8", "surrogateescape")))


def _a_node(name: bytes, kind: NodeType, mode: int, **fields: object) -> Node:
    times = {"mtime_ns": _TIME_NS, "atime_ns": _TIME_NS + 1, "ctime_ns": -1}
    return Node(name, kind, go_mode(mode), **times, **fields)  # type: ignore[arg-type]


def a_tree() -> bytes:
    """The blob of a folder with nodes of every kind."""
    return encode_tree(
        [
            _a_node(b"file \xff", NodeType.FILE, 0o100644, size=3, links=2, inode=5, content=(bytes(32), b"\1" * 32)),
            _a_node(b"folder", NodeType.DIR, 0o040755, subtree=bytes(32), user="anna", group="users"),
            _a_node(b"link", NodeType.SYMLINK, 0o120777, linktarget=b"\xff\xfe"),
            _a_node(b"device", NodeType.CHARDEV, 0o020600, device=259),
            _a_node(
                b'\x01 \\ "quotes" \xe2\x80\xa8',
                NodeType.FILE,
                0o104755,
                content=(),
                extended_attributes=(("user.oort", b"value"),),
                error="none",
            ),
        ]
    )


_ENTRIES = [
    PackEntry(bytes(32), BlobKind.DATA, 0, 40, 0),
    PackEntry(b"\1" * 32, BlobKind.DATA, 40, 100, 5_000),
]
_HEADER = encode_header(KEYS, _ENTRIES)
_SNAPSHOT = Snapshot(
    _TIME_NS, bytes(32), ("/home",), "host", "anna", 1, 2, ("*.o",), ("oort:item=1",), "ab" * 32, "cd" * 32, "oort 1"
)
_MASTER = b'{"mac":{"k":"AQEBAQEBAQEBAQEBAQEBAQ==","r":"AQEBAQEBAQEBAQEBAQEBAQ=="},"encrypt":"%s="}' % (
    b"AQ" * 21 + b"E"
)

VAULT = (
    Format("config", decode_config, [encode_config(Config(2, "ab" * 32, 0x25B468838DCB75))]),
    Format("key-file", _read_key_file, [create_key_file("password", KEYS, cost=ScryptCost(2, 1, 1))]),
    Format("data-keys", parse_master, [_MASTER]),
    Format("snapshot", _read_snapshot, [encode_snapshot(_SNAPSHOT)]),
    Format(
        "lock", partial(decode_lock, name="lock"), [encode_lock(Lock(_TIME_NS, True, "host", "anna", 7, 1, 2, "5e"))]
    ),
    Format(
        "index-file",
        partial(decode_index_file, name="index"),
        [encode_index_file(IndexFile([IndexedPack.of(bytes(32), _ENTRIES)], [b"\2" * 32]))],
    ),
    Format("tree", _read_tree, [a_tree(), b'{"nodes":[]}\n', b'{"nodes": [ ] }', b"{}"]),
    Format(
        "pack-header",
        lambda body: decode_header(KEYS, KEYS.seal(body), "pack"),
        [KEYS.open(_HEADER[:-4])],
        mutators=_BINARY,
    ),
    Format("pack", partial(parse_pack, KEYS, _PACK), [bytes(140) + _HEADER], mutators=_BINARY),
    Format("sealed-blob", _read_blob, [struct.pack("<IB", 0, 0)], mutators=_BINARY),
    Format(
        "zstd-frame", _read_frame, [compress(b""), compress(b"text" * 99), compress(bytes(_HOLE))], mutators=_BINARY
    ),
    Format("unpacked-file", _read_unpacked, [b"{}", b"\x02" + compress(b"{}" * 500)], mutators=_BINARY),
    Format(
        "quoted-name",
        lambda body: unquote_name(body.decode("utf-8", "surrogateescape")),
        [
            quote_name(b"plain").encode(),
            quote_name(b'\xff \x01 "\\ \xe2\x80\xa8 \xf3\xa0\x80\x81').encode(),
            rb"\101\U0001f600",
        ],
        (ValueError,),
        _BINARY,
    ),
    Format(
        "time", _read_time, [b"2014-12-06T16:30:23.34513538+01:00", b"0000-02-29T00:00:00Z"], (ValueError,), _BINARY
    ),
)

# The account, and what a device keeps in its home


def _read_job_record(body: bytes) -> None:
    """A record goes into messages to auth, whose classes refuse what is of another kind."""
    record = JobRecord.from_json(body)
    jobs_pb2.Job(
        id=record.id,
        kind=record.kind,
        status=record.status,
        client_version=record.client_version,
        prune=record.prune,
    )
    jobs_pb2.FinishJobRequest(counts=jobs_pb2.Counts(**asdict(record.counts)), snapshot=record.snapshot)
    for vault in record.vaults:
        jobs_pb2.VaultResult(**asdict(vault))
    for line in record.lines:
        jobs_pb2.LogLine(severity=jobs_pb2.Severity.ValueType(line.severity), sealed=line.sealed)
    Timestamp(seconds=max(record.started_ns, record.ended_ns) // 1_000_000_000)


def _read_seal_file(body: bytes) -> None:
    seal = SealFile.from_bytes(body)
    _SEALER.open(SealPurpose.VAULT_KEY, seal.sealed_key, seal.vault)


def _read_code(body: bytes) -> None:
    if len(recovery.read_code(body.decode("utf-8", "surrogateescape"))) != 32:  # noqa: PLR2004
        raise AssertionError("a code holds 32 bytes")


_VAULT_ID = "0197a2b4-0000-7000-8000-000000000001"
_ACCOUNT = Account("host:8060", "/ca.pem", "tenant", "anna", _USER, _USER, bytes(32), bytes(32), bytes(61))
_JOB = JobRecord(
    _VAULT_ID, 1, _VAULT_ID, _VAULT_ID, _TIME_NS, "1.0", 5000, _TIME_NS, "ab", JobCounts(1, 2, 3), prune=True
)
_JOB.lines.append(LogEntry(_TIME_NS, 1, b"sealed"))
_JOB.vaults.append(VaultEnd(_VAULT_ID, 7002, "", b"sealed"))

ACCOUNT = (
    Format("account", Account.from_json, [_ACCOUNT.to_json()], (ValueError,)),
    Format("job-record", _read_job_record, [_JOB.to_json()], (ValueError,)),
    Format(
        "seal-file",
        _read_seal_file,
        [SealFile(_USER, _VAULT_ID, _SEALER.seal(SealPurpose.VAULT_KEY, b"5e" * 32, _VAULT_ID)).to_bytes()],
        (BrokenSeal,),
    ),
    Format(
        "seal",
        partial(_SEALER.open, SealPurpose.ITEM),
        [_SEALER.seal(SealPurpose.ITEM, b"plain")],
        (BrokenSeal,),
        _BINARY,
    ),
    Format("recovery-code", _read_code, [recovery.write_code(bytes(range(32))).encode()], (BadRecoveryCode,), _BINARY),
)

# What other machines say, and what a person types


def _read_get(body: bytes) -> None:
    """As the generated class reads it."""
    frame = decode_get(body)
    if frame != objects_pb2.GetResponse.FromString(body).frame:
        raise AssertionError("a frame is read otherwise than the generated class reads it")


def _read_pattern(body: bytes) -> None:
    pattern, _, path = body.partition(b"\0")
    Includes([os.fsdecode(pattern)]).look(path or b"/home/anna/a file")


def _refusal() -> bytes:
    status = status_pb2.Status(code=5, message="no such object")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="NOT_FOUND", metadata={"name": "x"}))
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=3, nanos=5)))
    return bytes(status.SerializeToString())


WIRE = (
    Format(
        "get-response",
        _read_get,
        [objects_pb2.GetResponse(frame=b"x" * 200).SerializeToString()],
        (DecodeError,),
        _BINARY,
    ),
    Format("refusal", read_details, [_refusal()], (), _BINARY),
    Format(
        "endpoint",
        lambda body: split_endpoint(body.decode("utf-8", "replace")),
        [b"[::1]:8060"],
        (UsageError,),
        _BINARY,
    ),
    Format(
        "object-name",
        lambda body: ObjectName.parse(body.decode("utf-8", "replace")),
        [str(_PACK).encode()],
        (BadName,),
        _BINARY,
    ),
    Format("pattern", _read_pattern, [b"/home/**/[a-z]*.tx?", b"a/./b\0/a/b"], (UsageError,), _BINARY),
)

FORMATS = (*VAULT, *ACCOUNT, *WIRE)
