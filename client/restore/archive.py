"""Archives: what a folder of a snapshot is as tar or zip, written as it is read.

Kept true: memory does not grow with the sizes of files; zip keeps an entry a file for its directory. tar carries all
that a snapshot knows (pax headers for nanoseconds, attributes and long or raw names); zip, by its format, times to the
second, no attributes, no devices, and each name of a hard-linked file as a file of its own.
"""

import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import IO, Protocol, Self, cast

import zstandard

from client.restore.request import ArchiveFormat
from client.vault.modes import NodeType
from client.vault.nodes import Node

_SECOND = 1_000_000_000
_ZSTD_LEVEL = 3
_GZIP_LEVEL = 6
_GZIP_WINDOW = 31  # deflateInit2: a window of 32 KiB, and gzip's header
_PERMISSIONS = 0o7777
_TAR_TYPES = {
    NodeType.FILE: tarfile.REGTYPE,
    NodeType.DIR: tarfile.DIRTYPE,
    NodeType.SYMLINK: tarfile.SYMTYPE,
    NodeType.FIFO: tarfile.FIFOTYPE,
    NodeType.CHARDEV: tarfile.CHRTYPE,
    NodeType.DEV: tarfile.BLKTYPE,
}
_ZIP_TYPES = frozenset({NodeType.FILE, NodeType.DIR, NodeType.SYMLINK})
_DOS_FOLDER = 0x10
_FIRST_ZIP_YEAR, _LAST_ZIP_YEAR = 1980, 2107
_U32, _I32 = (1 << 32) - 1, (1 << 31) - 1


class Archive(Protocol):
    """An archive that is being written. Names are relative paths in bytes."""

    has_links: bool  # several names of one file

    def takes(self, node: Node) -> bool:
        """Whether the format has such things."""

    def add(self, name: bytes, node: Node, size: int, content: Iterable[bytes]) -> list[str]:
        """Write an entry with the `size` bytes of `content`. Answers what of it the format cannot keep."""

    def link(self, name: bytes, node: Node, first: bytes) -> None:
        """Write another name of the entry `first`, if the format `has_links`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *failure: object) -> None:
        """Write the end, unless something has failed."""


def open_archive(kind: ArchiveFormat, output: IO[bytes]) -> Archive:
    """A new archive on `output`, which is only written to, from its beginning to its end."""
    return ZipArchive(output) if kind is ArchiveFormat.ZIP else TarArchive(kind, output)


class TarArchive:
    """tar in pax format, perhaps compressed."""

    has_links = True

    def __init__(self, kind: ArchiveFormat, output: IO[bytes]) -> None:
        self._output = _Compressed(output, _compressor(kind))

    def takes(self, node: Node) -> bool:
        return node.type in _TAR_TYPES

    def add(self, name: bytes, node: Node, size: int, content: Iterable[bytes]) -> list[str]:
        info, complaints = _tar_info(name, node)
        info.size = size
        self._head(info)
        for part in content:
            self._output.write(part)
        self._output.write(bytes(-size % tarfile.BLOCKSIZE))
        return complaints

    def link(self, name: bytes, node: Node, first: bytes) -> None:
        info, _ = _tar_info(name, node)
        info.type = tarfile.LNKTYPE
        info.linkname = _text(first)
        self._head(info)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if failure[0] is None:
            end = 2 * tarfile.BLOCKSIZE
            self._output.write(bytes(end + -(self._output.written + end) % tarfile.RECORDSIZE))
            self._output.finish()

    def _head(self, info: tarfile.TarInfo) -> None:
        # Not by way of TarFile, which keeps a record of every entry.
        self._output.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    """No compression."""

    def compress(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _compressor(kind: ArchiveFormat) -> _Compressor:
    if kind is ArchiveFormat.TAR_GZ:
        return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    if kind is ArchiveFormat.TAR_ZST:
        return cast("_Compressor", zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj())
    return _Plain()


class _Compressed:
    """Compresses on the way to a file. What fails leaves no end, as the library's own compressed files would."""

    def __init__(self, output: IO[bytes], compressor: _Compressor) -> None:
        self._output = output
        self._compressor = compressor
        self.written = 0  # bytes before compression

    def write(self, data: bytes) -> None:
        self.written += len(data)
        packed = self._compressor.compress(data)
        if packed:
            self._output.write(packed)

    def finish(self) -> None:
        self._output.write(self._compressor.flush())


def _tar_info(name: bytes, node: Node) -> tuple[tarfile.TarInfo, list[str]]:
    info = tarfile.TarInfo(_text(name))
    info.type = _TAR_TYPES[node.type]
    info.mode = node.unix_mode & _PERMISSIONS
    info.uid, info.gid = node.uid, node.gid
    info.uname, info.gname = node.user, node.group
    info.mtime, fraction = divmod(node.mtime_ns, _SECOND)
    info.linkname = _text(node.linktarget)
    if node.type in (NodeType.CHARDEV, NodeType.DEV):
        info.devmajor, info.devminor = _device(node.device)
    headers: dict[str, str] = {}
    if fraction:
        headers["mtime"] = _decimal(node.mtime_ns)
    complaints = []
    for attribute, value in node.extended_attributes:
        if "=" in attribute or "\0" in attribute or not attribute.isprintable():
            complaints.append(f"its attribute {attribute!r} has a name that no tar can hold")
        else:
            headers[f"SCHILY.xattr.{attribute}"] = _text(value)
    info.pax_headers = headers
    return info, complaints


def _decimal(ns: int) -> str:
    """Nanoseconds as seconds, as pax wants them: before 1970 with a minus before the whole."""
    seconds, fraction = divmod(abs(ns), _SECOND)
    return f"{'-' if ns < 0 else ''}{seconds}.{fraction:09d}".rstrip("0")


def _text(raw: bytes) -> str:
    """Bytes as tarfile takes them, and writes them back."""
    return raw.decode("utf-8", "surrogateescape")


def _device(number: int) -> tuple[int, int]:
    """Major and minor number, as Linux packs them (sysmacros.h)."""
    return (number >> 8 & 0xFFF) | (number >> 32 & ~0xFFF), (number & 0xFF) | (number >> 12 & ~0xFF)


class ZipArchive:
    """zip with Info-ZIP's extra fields for times and owners."""

    has_links = False

    def __init__(self, output: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED)

    def takes(self, node: Node) -> bool:
        return node.type in _ZIP_TYPES

    def add(self, name: bytes, node: Node, size: int, content: Iterable[bytes]) -> list[str]:
        is_text = _is_text(name)
        text = name.decode("utf-8", "backslashreplace") + ("/" if node.type is NodeType.DIR else "")
        info = zipfile.ZipInfo(text, _zip_time(node.mtime_ns))
        info.create_system = 3  # Unix
        info.external_attr = node.unix_mode << 16 | (_DOS_FOLDER if node.type is NodeType.DIR else 0)
        info.extra = _zip_extra(node)
        info.compress_type = zipfile.ZIP_DEFLATED if node.type is NodeType.FILE else zipfile.ZIP_STORED
        if node.type is NodeType.SYMLINK:
            content, size = (node.linktarget,), len(node.linktarget)
        info.file_size = size
        with self._zip.open(info, "w", force_zip64=size >= _I32) as entry:
            for part in content:
                entry.write(part)
        return [] if is_text else ["its name is no UTF-8, and is written out in the zip"]

    def link(self, name: bytes, node: Node, first: bytes) -> None:  # noqa: ARG002 - the protocol's
        raise AssertionError("a zip has no links")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if failure[0] is not None:
            self._zip.fp = None  # or it would write its end when it is forgotten
        self._zip.close()


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _zip_time(ns: int) -> tuple[int, int, int, int, int, int]:
    """The nearest time that a zip's own field can hold."""
    seconds = min(max(ns // _SECOND, 0), _U32)
    moment = datetime.fromtimestamp(seconds, UTC)
    if moment.year < _FIRST_ZIP_YEAR:
        return _FIRST_ZIP_YEAR, 1, 1, 0, 0, 0
    if moment.year > _LAST_ZIP_YEAR:
        return _LAST_ZIP_YEAR, 12, 31, 23, 59, 58
    return moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second


def _zip_extra(node: Node) -> bytes:
    """Time in UTC and numeric owner, as Info-ZIP's "extended timestamp" and "new Unix" fields have them."""
    extra = struct.pack("<HHBBIBI", 0x7875, 11, 1, 4, node.uid, 4, node.gid)
    seconds = node.mtime_ns // _SECOND
    if -_I32 <= seconds <= _I32:
        extra += struct.pack("<HHBi", 0x5455, 5, 1, seconds)
    return extra
