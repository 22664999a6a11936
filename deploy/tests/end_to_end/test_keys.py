"""The key of a vault on storage nodes is changed while its devices use it."""

from pathlib import Path

import pytest

from client.restore.compare import differences
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_user
from deploy.tests.end_to_end.restic import Restic
from deploy.tests.end_to_end.trees import a_tree, restored

pytestmark = pytest.mark.needs("restic")


def test_a_changed_key_opens_the_vault_on_every_device_and_for_restic(stack: Operator, tmp_path: Path) -> None:
    name, password = a_user(stack)
    first, second = Device(tmp_path / "first"), Device(tmp_path / "second")
    for device in (first, second):
        device.log_in(stack, name, password)
    first.request_vault("shared")
    source = a_tree(tmp_path / "source")
    kept = first.backup("shared", source)["snapshot"]
    before = first.recovery("shared")
    (old,) = first.tool.ok("key", "list", "--vault", "shared", "--json").json()

    assert first.tool.run("key", "change", "--vault", "shared").code == 2
    changed = first.tool.ok("key", "change", "--vault", "shared", "--yes", "--json").json()

    assert changed == {"removed": [old["id"]], "resumed": False}
    after = second.recovery("shared")
    assert after["password"] != before["password"]
    (new,) = second.tool.ok("key", "list", "--vault", "shared", "--json").json()
    assert (new["is_own"], new["id"] != old["id"]) == (True, True)
    folders = stack.bucket_folders(after["bucket"])
    assert len(folders) == 2
    assert len({(folder / "oort-vault").read_bytes() for folder in folders}) == 1
    for folder in folders:
        Restic(folder, after["password"], "--no-lock").check()
    second.tool.ok("check", "--vault", "shared")
    second.backup("shared", source)
    second.restore("shared", tmp_path / "target", kept)
    assert not list(differences(source, restored(tmp_path / "target", source)))
