"""`python -m bench`: Oort measured beside the peers that are installed, alone as it grows, and function by function.

Every figure of a peer is a ratio within one run on one machine: absolute times say little on a noisy one.
"""

import argparse
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import comparison, machine
from bench.datasets.catalogue import DATASETS
from bench.datasets.dataset import Dataset, folder
from bench.measure import CommandFailed
from bench.peers import missing
from bench.results import Report
from bench.terminal import print_report

_MUST_SHOW = ("image", "small")
_ROUNDS = 5
_SHORT_SCALE = 0.125


def main() -> int:
    """Run a command; 1 and one line when a contestant failed, 130 when interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = _parser().parse_args()
    try:
        arguments.command(arguments)
    except CommandFailed as error:
        _say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        _say("bench: interrupted")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True)
    compare = commands.add_parser("compare", help="first backup, second one, restore and stored size, beside the peers")
    compare.set_defaults(command=_compare)
    compare.add_argument(
        "--dataset",
        action="append",
        choices=[*DATASETS, "all"],
        help=f"may be repeated; default: those of the targets, {' and '.join(_MUST_SHOW)}",
    )
    compare.add_argument("--source", type=_folder, metavar="DIR", help="a real folder instead, as it is")
    compare.add_argument("--rounds", type=_count, help=f"whose medians are shown; default {_ROUNDS}, 1 with --short")
    compare.add_argument("--short", action="store_true", help="an eighth of the size, once: whether it works")
    compare.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, for `report`")
    compare.add_argument("--place", type=_folder, metavar="DIR", help="where to work; default: the temporary folder")
    return parser


def _compare(arguments: argparse.Namespace) -> None:
    rounds = arguments.rounds or (1 if arguments.short else _ROUNDS)
    scale = _SHORT_SCALE if arguments.short else 1
    absent = missing()
    for line in absent:
        _say(line)
    report = Report(
        machine=machine.describe(),
        date=datetime.now(UTC).date().isoformat(),
        scale=scale,
        missing=absent,
        comparisons=[
            comparison.compare(dataset, scale=scale, rounds=rounds, place=arguments.place, say=_say)
            for dataset in _chosen(arguments)
        ],
    )
    print_report(report, rounds)
    if arguments.json:
        report.save(arguments.json)


def _chosen(arguments: argparse.Namespace) -> list[Dataset]:
    if arguments.source:
        return [folder(arguments.source)]
    names = arguments.dataset or _MUST_SHOW
    return list(DATASETS.values()) if "all" in names else [DATASETS[name] for name in names]


def _folder(text: str) -> Path:
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return path


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return count


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
