"""A vault that is mounted by a thread of this process, for tests."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from client.mount.mounting import unmount
from client.mount.run import MountRequest, mount
from client.stores.abc import ObjectStore
from client.testing.vaults import PASSWORD, Around
from client.vault.repository import open_vault
from domain.names import ObjectName
from domain.sessions import Purpose

_PATIENCE_SECONDS = 120.0


@dataclass
class Mounted:
    """What is mounted, and what could not be read so far."""

    at: Path
    failures: list[tuple[bytes, str]] = field(default_factory=list)
    unread: list[ObjectName] = field(default_factory=list)

    def snapshot(self, source: Path) -> Path:
        """Where `source` is in the latest snapshot."""
        return self.at / "dates" / "latest" / source.relative_to("/")


@contextmanager
def a_mount(
    store: ObjectStore,
    mountpoint: Path,
    *,
    around: Around = lambda session: session,
    password: str = PASSWORD,
    devices: Mapping[str, str] | None = None,
    refresh_seconds: float = 3600.0,
) -> Iterator[Mounted]:
    """Mount a vault at a new folder; `around` puts a fault around its session. Unmounted at the end in any case."""
    mountpoint.mkdir()
    mounted = Mounted(mountpoint)
    started = threading.Event()
    errors: list[BaseException] = []
    names = {"2": "laptop"} if devices is None else devices
    request = MountRequest("vault", mountpoint, lambda found: found, lambda: names, refresh_seconds=refresh_seconds)

    def serve() -> None:
        try:
            with (
                store.open(Purpose.READ) as session,
                open_vault(around(session), password) as opened,
            ):
                mount(
                    opened,
                    request,
                    unread=lambda name, _: mounted.unread.append(name),
                    failed=lambda path, reason: mounted.failures.append((path, reason)),
                    started=lambda _: started.set(),
                )
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=serve, name="a-mount", daemon=True)
    thread.start()
    try:
        assert started.wait(_PATIENCE_SECONDS)
        if not errors:
            yield mounted
    finally:
        unmount(mountpoint)
        thread.join(_PATIENCE_SECONDS)
    assert not thread.is_alive()
    if errors:
        raise errors[0]
