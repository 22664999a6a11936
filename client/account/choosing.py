"""Which of several vaults a snapshot is read from. All are asked at once.

Kept true: `latest` is the newest that any vault is known to have, and whoever may have a newer one without having been
heard is told; once one has the snapshot, a vault is waited for as long as it goes on answering, and for a short time
when it is silent.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from client.account.device import Device
from client.account.reading import Unreadable, found_in
from client.account.vaults import Vaults
from client.errors import NoSuchSnapshot, OortError, StoreError
from client.vault.snapshots import LATEST, Snapshot

SILENT_SECONDS = 20.0  # a disk that sleeps, or a store that is reached anew, has answered by then
_LOOK = 0.2  # seconds after which it is looked again


class Told(Protocol):
    """Hears of a vault that is not read, and why; it may have a newer snapshot than the one that is."""

    def __call__(self, vault: str, error: OortError, /, *, may_have_newer: bool) -> None: ...


@dataclass(slots=True)
class _Asked:
    """One vault: what came of asking it, if it has come, and when it was last heard (monotonic seconds)."""

    name: str
    answer: Snapshot | BaseException | None = None
    unreadable: Unreadable = field(default_factory=dict)
    heard: float = 0.0


def first_that_answers(device: Device, names: Sequence[str], wanted: str, told: Told, *, all_devices: bool) -> str:
    """Of several vaults, the first that has the snapshot; for `latest`, that which has the newest.

    A single one is answered unseen. Raises NoSuchVault; where none has the snapshot, why the last one has not.
    """
    if len(names) == 1:
        return names[0]
    Vaults(device).all_named(names)
    asked = [_Asked(name) for name in names]
    changed = threading.Condition()

    def came(one: _Asked, answer: Snapshot | BaseException) -> None:
        with changed:
            one.answer = one.answer or answer  # how a session ends that has brought the snapshot says nothing of it
            changed.notify_all()

    def ask(one: _Asked) -> None:
        def heard() -> None:
            one.heard = time.monotonic()

        try:
            with found_in(device, one.name, wanted, one.unreadable, all_devices=all_devices, heard=heard) as found:
                came(one, found.snapshot)
        except BaseException as error:  # noqa: BLE001 - raised below, or told
            came(one, error)

    for one in asked:
        # One that is silent for good ends with this process.
        threading.Thread(target=ask, args=(one,), name=f"ask-{one.name}", daemon=True).start()
    with changed:
        _wait(asked, changed, wants_newest=wanted == LATEST)
        answers = [one.answer for one in asked]
    return _chosen(asked, answers, told, wants_newest=wanted == LATEST)


def _wait(asked: Sequence[_Asked], changed: threading.Condition, *, wants_newest: bool) -> None:
    """Until nothing is to come that matters, or all that is has been silent since one has the snapshot."""
    found_at: float | None = None
    while True:
        first = next((at for at, one in enumerate(asked) if isinstance(one.answer, Snapshot)), None)
        before = asked if wants_newest or first is None else asked[:first]
        missing = [one for one in before if one.answer is None]
        now = time.monotonic()
        if first is not None:
            found_at = now if found_at is None else found_at
            missing = [one for one in missing if now - max(one.heard, found_at) < SILENT_SECONDS]
        if not missing:
            return
        changed.wait(_LOOK)


def _chosen(
    asked: Sequence[_Asked], answers: Sequence[Snapshot | BaseException | None], told: Told, *, wants_newest: bool
) -> str:
    """The vault to read; why it is none of the others is told."""
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, OortError):
            raise answer
    found = [at for at, answer in enumerate(answers) if isinstance(answer, Snapshot)]
    chosen = None
    if found:
        chosen = max(found, key=lambda at: (_time_of(answers[at]), -at)) if wants_newest else found[0]
    for at, (one, answer) in enumerate(zip(asked, answers, strict=True)):
        if at == chosen or (chosen is not None and at > chosen and not wants_newest):
            continue
        error = _why_not(one, answer)
        if error is not None and (chosen is not None or at + 1 < len(asked)):
            is_unheard = chosen is not None and not isinstance(error, NoSuchSnapshot)
            told(one.name, error, may_have_newer=wants_newest and is_unheard)
    if chosen is not None:
        return asked[chosen].name
    raise next(answer for answer in reversed(answers) if isinstance(answer, OortError))


def _time_of(answer: Snapshot | BaseException | None) -> int:
    return answer.time_ns if isinstance(answer, Snapshot) else 0


def _why_not(one: _Asked, answer: Snapshot | BaseException | None) -> OortError | None:
    """Why a vault is not read, if that is not because its snapshot is older and it has none that cannot be read."""
    if answer is None:
        detail = f"it has not answered for {SILENT_SECONDS:g} seconds; name it alone to wait for it"
        return StoreError(place="Its store", detail=detail)
    if isinstance(answer, OortError) and not isinstance(answer, NoSuchSnapshot):
        return answer
    if one.unreadable:
        return next(iter(one.unreadable.values()))
    return answer if isinstance(answer, OortError) else None
