"""The folders of a mount above those of its snapshots: the same snapshots by id, date, device, host, item and tag.

Kept true: a snapshot keeps its names for as long as it is there, whatever comes after it; no name holds a slash, or is
longer than a name may be.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from client.vault.snapshots import Snapshot, newest_first, paths_text
from client.vault.times import format_time

LATEST = b"latest"
_LONGEST = 200  # bytes; the system takes 255
_SHORT = 8


@dataclass(slots=True)
class View:
    """A folder: snapshots, links (their targets) and further ones; `time_ns` is that of the newest snapshot."""

    entries: "dict[bytes, View | Snapshot | bytes]" = field(default_factory=dict)
    time_ns: int = 0


def view_of(snapshots: Sequence[Snapshot], devices: Mapping[str, str]) -> View:
    """All views; `snapshots` come oldest first, `devices` are the names of devices by id."""
    view = View(time_ns=max((one.time_ns for one in snapshots), default=0))
    view.entries = {
        b"ids": View(_by_id(snapshots), view.time_ns),
        b"dates": _series(snapshots),
        b"devices": _grouped(snapshots, lambda one: [_device_name(one.device, devices)] if one.device else []),
        b"hosts": _grouped(snapshots, lambda one: [one.hostname] if one.hostname else []),
        b"items": _grouped(snapshots, lambda one: [_item_name(one)] if one.item else []),
        b"tags": _grouped(snapshots, lambda one: one.user_tags),
    }
    return view


def _by_id(snapshots: Sequence[Snapshot]) -> "dict[bytes, View | Snapshot | bytes]":
    """By the first digits of their ids, and where one came before with the same ones, by all."""
    entries: dict[bytes, View | Snapshot | bytes] = {}
    for one in snapshots:
        short = one.short_id.encode()
        entries[one.id.encode() if short in entries else short] = one
    return _with_latest(entries, snapshots)


def _series(snapshots: Sequence[Snapshot]) -> View:
    """By the second of their time, UTC; of several in a second the later ones also by id."""
    entries: dict[bytes, View | Snapshot | bytes] = {}
    for one in sorted(snapshots, key=lambda one: (one.time_ns, one.id)):
        name = f"{format_time(one.time_ns)[:19]}Z".encode()
        entries[name + b"-" + one.short_id.encode() if name in entries else name] = one
    return View(_with_latest(entries, snapshots), max((one.time_ns for one in snapshots), default=0))


def _with_latest(
    entries: "dict[bytes, View | Snapshot | bytes]", snapshots: Sequence[Snapshot]
) -> "dict[bytes, View | Snapshot | bytes]":
    for newest in newest_first(snapshots)[:1]:
        return entries | {LATEST: next(name for name, one in entries.items() if one is newest)}
    return entries


def _grouped(snapshots: Iterable[Snapshot], names_of: Callable[[Snapshot], Iterable[str]]) -> View:
    groups: dict[bytes, list[Snapshot]] = {}
    for one in snapshots:
        for name in dict.fromkeys(map(_as_name, names_of(one))):
            groups.setdefault(name, []).append(one)
    series = {name: _series(members) for name, members in groups.items()}
    return View(dict(series), max((one.time_ns for one in series.values()), default=0))


def _device_name(device: str, names: Mapping[str, str]) -> str:
    """Its name, and where another device has the same, the end of its id."""
    name = names.get(device, "")
    if not name:
        return device
    return f"{name}-{device[-_SHORT:]}" if list(names.values()).count(name) > 1 else name


def _item_name(snapshot: Snapshot) -> str:
    """What an item backs up, and the end of its id."""
    return f"{_shortened(paths_text(snapshot.paths).strip('/'))}-{snapshot.item[-_SHORT:]}"


def _shortened(text: str) -> str:
    return text.encode("utf-8", "surrogateescape")[: _LONGEST // 2].decode("utf-8", "ignore")


def _as_name(text: str) -> bytes:
    name = text.replace("/", "_").replace("\0", "_").encode("utf-8", "surrogateescape")[:_LONGEST]
    return b"_" if name in (b"", b".", b"..") else name
