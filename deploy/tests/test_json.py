"""What `oort ... --json` prints is what the operator's guide says."""

import re
from pathlib import Path

import pytest

from deploy.driver import Operator
from deploy.tests.end_to_end.conftest import a_device
from deploy.tests.here import Here

_GUIDE = Path(__file__).parents[2] / "docs" / "operator-guide.md"


def told(command: str) -> set[str]:
    """The words in the row of a command, keys among them."""
    [row] = re.findall(rf"^\| `{re.escape(command)}` \| (.*) \|$", _GUIDE.read_text(), re.MULTILINE)
    return set(re.findall(r"`(\w+)`", row))


@pytest.mark.parametrize("command", ["user list", "tenant list", "template list", "bucket list", "node list"])
def test_a_list_has_the_keys_that_the_guide_names(stack: Operator, tmp_path: Path, command: str) -> None:
    a_device(stack, tmp_path / "home")  # so that there is one of each
    rows = Here("oort").ok(*command.split(), "--json", "--data", str(stack.data), codes=(0, 8)).json()
    assert rows
    for row in rows:
        assert set(row) <= told(command)
    assert told(command) - set(rows[0]) <= {"admin", "user", "serving", "draining", "removed", "lost"}


def test_so_has_what_is_told_of_one_bucket(stack: Operator, tmp_path: Path) -> None:
    bucket = a_device(stack, tmp_path / "home").recovery("main")["bucket"]
    oort, data = Here("oort"), ("--json", "--data", str(stack.data))
    for command in ("bucket basket", "bucket status", "bucket restore"):
        answer = oort.ok(*command.split(), bucket, *data).json()
        assert set(answer) <= told(command), command
    planned = oort.ok("bucket", "restore", bucket, "--dry-run", *data).json()
    assert set(planned) | set(planned["protection"]) <= told("bucket restore --dry-run")
