"""A device that may call the cluster hardly ever: it waits, and its backup is done all the same."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.restore.compare import differences
from deploy.driver import Operator
from deploy.local.folder import USUAL_NODES, StackFolder
from deploy.local.roles import nodes
from deploy.tests.end_to_end.conftest import a_device, a_stack
from deploy.tests.end_to_end.test_rest import over_rest
from deploy.tests.end_to_end.trees import a_tree, restored
from deploy.tests.here import AdministeredHere
from deploy.tests.metrics import metrics

# One call in half a second, and none besides.
_LIMITS = "OORT_DEVICE_CALLS_PER_SECOND=2\nOORT_CALLS_BURST_SECONDS=0.5\n"
_refused = re.compile(r'oort_rpc_calls_total\{code="RESOURCE_EXHAUSTED",method=".+"\} (.+)').findall


@pytest.fixture(scope="module")
def limited_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    operator = AdministeredHere(tmp_path_factory.mktemp("limited") / "stack")
    folder = StackFolder.create(operator.data)
    for node in nodes(USUAL_NODES):
        settings = folder.settings_file(node.name)
        settings.parent.mkdir(exist_ok=True)
        settings.write_text(_LIMITS)
    with a_stack(operator):
        yield operator


def refusals(operator: Operator) -> float:
    """Calls that the nodes have refused for now."""
    return sum(map(float, _refused(metrics(operator, "storage"))))


def test_a_limited_device_backs_up_and_restores_to_the_end(limited_stack: Operator, tmp_path: Path) -> None:
    device = a_device(limited_stack, tmp_path / "home")
    source = a_tree(tmp_path / "source")
    before = refusals(limited_stack)

    device.backup("main", source)
    device.restore("main", tmp_path / "target")

    assert not list(differences(source, restored(tmp_path / "target", source)))
    assert refusals(limited_stack) > before


@pytest.mark.needs("restic")
def test_a_limited_restic_which_would_end_at_a_refusal_gets_through(limited_stack: Operator, tmp_path: Path) -> None:
    restic = over_rest(a_device(limited_stack, tmp_path / "home"), "a password of its own")
    (tmp_path / "letter").write_text("dear restic")
    restic.run("init")
    restic.run("backup", str(tmp_path / "letter"))
    restic.run("restore", "latest", "--target", str(tmp_path / "target"))
    assert restored(tmp_path / "target", tmp_path).joinpath("letter").read_text() == "dear restic"
