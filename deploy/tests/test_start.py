import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.driver import Command

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_while_the_program_loads_is_one_line(number: signal.Signals) -> None:
    code = (
        "import os, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *others):\n"
        f"        if name == 'deploy.cli.accounts': os.kill(os.getpid(), {number.value})\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from deploy.cli.start import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "oort: interrupted\n")


@pytest.mark.parametrize(
    "arguments",
    [["template", "add", "single"], ["stack", "up", "--restart-delay", "-1", "--data", "nowhere"], ["unknown"]],
)
def test_a_wrong_command_line_is_one_line_and_code_2(arguments: list[str]) -> None:
    refused = Command("oort").run(*arguments)
    assert (refused.code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("oort: ")
    assert len(refused.stderr.splitlines()) == 1
