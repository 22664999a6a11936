"""The storage database is dropped while the vaults of two users are used; the disks are all that is left.

Two nodes of several disks, one of two workers, hold vaults in one copy and in two, with a waste basket, an object lock,
a quota, and a bare restic's repository. Each fire breaks out in another moment. Then it is done as the operator guide
says: an empty database, `oort node rescan`, `oort bucket scrub --all`. Ends with 0 only if every command ended as the
documents say, every snapshot that was acknowledged is listed and restores as its tree was, all copies are there, every
checker is content, and who was interrupted goes on. What is drawn comes from the seed.
"""

import argparse
import os
import secrets
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from traceback import format_exc

from deploy.campaigns.devices.judging import Findings, say
from deploy.campaigns.fire.campaign import Campaign, Moment
from deploy.campaigns.fire.fires import prepare
from deploy.driver import Operator
from deploy.local.folder import StackFolder
from deploy.tests.ports import own_ports

_MINUTES = 4.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make campaign-fire", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=_MINUTES, help=f"after which no fire breaks out (default {_MINUTES:g})"
    )
    parser.add_argument("--seed", type=int, help="of all that is drawn (default: another each time)")
    moments = [moment.name.lower() for moment in Moment]
    parser.add_argument(
        "--moment", choices=moments, default=moments[0], help=f"of the first fire (default {moments[0]})"
    )
    arguments = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="oort-campaign-fire-"))
    say(f"{arguments.minutes:g} minutes with seed {seed}")
    findings = Findings()
    stack = StackFolder.create(folder / "stack")
    prepare(stack)
    with ExitStack() as last:
        last.enter_context(own_ports(stack))
        operator = Operator(stack.path, os.environ)
        last.callback(operator.down)
        operator.up("--restart-delay", "1")
        try:
            Campaign(operator, folder, findings, seed).run(arguments.minutes * 60, Moment[arguments.moment.upper()])
        except Exception:  # noqa: BLE001 - told, and the campaign fails
            findings.add(format_exc())
    if findings:
        say(f"{len(findings)} findings with seed {seed}; the stack's data and logs, and the homes: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
