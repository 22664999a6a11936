"""The vault of the campaign on large indexes, made small; and what a new device reads of an index."""

import os
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from client.restore.request import RestoreOptions
from client.restore.run import restore
from client.restore.selection import Patterns
from client.stores.abc import StoreSession
from client.stores.local import LocalStore
from client.testing.faults import SessionAround
from client.vault.checker import check
from client.vault.repository import open_vault
from deploy.campaigns.index import limits
from deploy.campaigns.index.large_vault import LargeVault, make_large_vault
from deploy.campaigns.index.limits import limited, run_watched
from deploy.tests.end_to_end.restic import Restic
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

BLOBS = 50_000


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> LargeVault:
    return make_large_vault(tmp_path_factory.mktemp("large") / "vault", BLOBS)


class Metered(SessionAround):
    """Counts what is read, by kind."""

    def __init__(self, session: StoreSession) -> None:
        super().__init__(session)
        self.calls: Counter[ObjectKind] = Counter()
        self.bytes: Counter[ObjectKind] = Counter()

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        body = super().get(name, offset, length)
        self.calls[name.kind] += 1
        self.bytes[name.kind] += len(body)
        return body


def restore_one_file(vault: LargeVault, cache: Path, target: Path) -> Metered:
    path, content = vault.file
    with closing(LocalStore(vault.path)) as store, store.open(Purpose.READ) as plain:
        session = Metered(plain)
        with open_vault(session, vault.repository_password, cache) as opened:
            restore(opened, session, opened.find_snapshot(vault.snapshot), target, RestoreOptions(Patterns([path])))
    assert (target / path.lstrip("/")).read_bytes() == content
    return session


def test_a_new_device_reads_each_index_file_once_and_afterwards_none(vault: LargeVault, tmp_path: Path) -> None:
    """What docs/decisions/index-on-a-new-device.md says."""
    first = restore_one_file(vault, tmp_path / "cache", tmp_path / "first")
    assert first.calls[ObjectKind.INDEX] == vault.index_files
    assert first.bytes[ObjectKind.INDEX] == vault.index_bytes
    second = restore_one_file(vault, tmp_path / "cache", tmp_path / "second")
    assert second.calls[ObjectKind.INDEX] == 0
    assert second.calls[ObjectKind.PACK] == first.calls[ObjectKind.PACK]


@pytest.mark.needs("restic")
def test_the_vault_is_in_order_for_restic_and_for_the_strict_check(vault: LargeVault) -> None:
    Restic(vault.path, vault.repository_password, "--no-lock").check()
    told: set[str] = set()
    with closing(LocalStore(vault.path)) as store, store.open(Purpose.READ) as session:
        opened = open_vault(session, vault.repository_password)
        assert list(check(opened, progress=lambda things, *_: told.add(things))) == []
    assert told == {"index files", "packs", "trees"}


@pytest.mark.parametrize("with_groups", [True, False])
def test_a_command_that_holds_more_than_the_limit_is_ended(with_groups: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_groups:
        monkeypatch.setattr(limits, "_make_group", lambda _: None)
    program = "import sys; print(len(bytearray(int(sys.argv[1]))))"
    with limited(100_000_000) as limit:
        fits, does_not = (
            run_watched([*limit.prefix, sys.executable, "-c", program, size], os.environ)
            for size in ("50000000", "150000000")
        )
    assert (fits.code, fits.stdout) == (0, "50000000\n")
    assert does_not.code != 0
