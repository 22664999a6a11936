"""The folders of a mount above those of its snapshots: the same snapshots by id, date, device, host, item and tag.

Kept true: a snapshot keeps its names for as long as it is there, whatever comes or goes beside it; no name holds a
slash, or is longer than a name may be.
"""

import os
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


class Names:
    """The names that were given, by the folder they are in: what has one keeps it while it is there."""

    def __init__(self) -> None:
        self._given: dict[bytes, dict[str, bytes]] = {}

    def give(self, folder: bytes, wanted: Mapping[str, Sequence[bytes]]) -> Mapping[str, bytes]:
        """A name for each of those that are there: the first of those it would take that nobody has.

        The last one of each is its alone. Those that come first in `wanted` choose first.
        """
        before = self._given.get(folder, {})
        names = {one: before[one] for one, choices in wanted.items() if before.get(one) in choices}
        taken = set(names.values())
        for one, choices in wanted.items():
            if one not in names:
                names[one] = next((name for name in choices if name not in taken), choices[-1])
                taken.add(names[one])
        self._given[folder] = names
        return names


def view_of(snapshots: Sequence[Snapshot], devices: Mapping[str, str], names: Names) -> View:
    """All views; `snapshots` come oldest first, `devices` are the names of devices by id."""

    def grouped(folder: bytes, names_of: Callable[[Snapshot], Iterable[str]]) -> View:
        groups: dict[bytes, list[Snapshot]] = {}
        for one in snapshots:
            for name in dict.fromkeys(map(_as_name, names_of(one))):
                groups.setdefault(name, []).append(one)
        series = {name: _series(members, names, folder + b"/" + name) for name, members in groups.items()}
        return View(dict(series), max((one.time_ns for one in series.values()), default=0))

    present = sorted({one.device for one in snapshots if one.device})
    device_names = names.give(b"devices", {device: _device_names(device, devices) for device in present})
    view = View(time_ns=_newest_time(snapshots))
    view.entries = {
        b"ids": _by_id(snapshots, names),
        b"dates": _series(snapshots, names, b"dates"),
        b"devices": grouped(b"devices", lambda one: [os.fsdecode(device_names[one.device])] if one.device else []),
        b"hosts": grouped(b"hosts", lambda one: [one.hostname] if one.hostname else []),
        b"items": grouped(b"items", lambda one: [_item_name(one)] if one.item else []),
        b"tags": grouped(b"tags", lambda one: one.user_tags),
    }
    return view


def _newest_time(snapshots: Sequence[Snapshot]) -> int:
    return max((one.time_ns for one in snapshots), default=0)


def _by_id(snapshots: Sequence[Snapshot], names: Names) -> View:
    """By the first digits of their ids, and where another one has the same, by all."""
    return _named(
        snapshots, names.give(b"ids", {one.id: [one.short_id.encode(), one.id.encode()] for one in snapshots})
    )


def _series(snapshots: Sequence[Snapshot], names: Names, folder: bytes) -> View:
    """By the second of their time, UTC; of several in a second the later ones also by id."""
    wanted: dict[str, Sequence[bytes]] = {}
    for one in sorted(snapshots, key=lambda one: (one.time_ns, one.id)):
        time = f"{format_time(one.time_ns)[:19]}Z"
        wanted[one.id] = [name.encode() for name in (time, f"{time}-{one.short_id}", f"{time}-{one.id}")]
    return _named(snapshots, names.give(folder, wanted))


def _named(snapshots: Sequence[Snapshot], names: Mapping[str, bytes]) -> View:
    entries: dict[bytes, View | Snapshot | bytes] = {names[one.id]: one for one in snapshots}
    for newest in newest_first(snapshots)[:1]:
        entries[LATEST] = names[newest.id]
    return View(entries, _newest_time(snapshots))


def _device_names(device: str, names: Mapping[str, str]) -> Sequence[bytes]:
    """What it may be called: by its name, with the end of its id if another has that, or by its id."""
    name = names.get(device, "")
    return [_as_name(text) for text in (*((name, f"{name}-{device[-_SHORT:]}") if name else ()), device)]


def _item_name(snapshot: Snapshot) -> str:
    """What an item backs up, and the end of its id."""
    return f"{_shortened(paths_text(snapshot.paths).strip('/'))}-{snapshot.item[-_SHORT:]}"


def _shortened(text: str) -> str:
    return text.encode("utf-8", "surrogateescape")[: _LONGEST // 2].decode("utf-8", "ignore")


def _as_name(text: str) -> bytes:
    name = text.replace("/", "_").replace("\0", "_").encode("utf-8", "surrogateescape")[:_LONGEST]
    return b"_" if name in (b"", b".", b"..") else name
