"""A device that may call the cluster hardly ever: it waits, and its backup is done all the same."""

import re
from pathlib import Path

from client.restore.compare import differences
from deploy.driver import Operator
from deploy.tests.end_to_end.conftest import a_device
from deploy.tests.end_to_end.trees import a_tree, restored
from deploy.tests.metrics import metrics

# One call in half a second, and none besides.
_LIMITS = "OORT_DEVICE_CALLS_PER_SECOND=2\nOORT_CALLS_BURST_SECONDS=0.5\n"
_refused = re.compile(r'oort_rpc_calls_total\{code="RESOURCE_EXHAUSTED",method=".+"\} (.+)').findall


def test_a_limited_device_backs_up_and_restores_to_the_end(own_stack: Operator, tmp_path: Path) -> None:
    nodes = own_stack.status()["nodes"]
    for name in nodes:
        settings = own_stack.data / "settings" / name
        settings.parent.mkdir(exist_ok=True)
        settings.write_text(_LIMITS)
        own_stack.oort.ok("stack", "restart", name, "--data", str(own_stack.data))
    device = a_device(own_stack, tmp_path / "home")
    source = a_tree(tmp_path / "source")

    device.backup("main", source)
    device.restore("main", tmp_path / "target")

    assert not list(differences(source, restored(tmp_path / "target", source)))
    assert sum(map(float, _refused(metrics(own_stack, "storage")))) >= 1
