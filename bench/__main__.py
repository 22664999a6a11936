"""`python -m bench`: Oort measured beside the peers that are installed, alone as it grows, and function by function.

Every figure of a peer is a ratio within one run on one machine: absolute times say little on a noisy one.
"""

import argparse
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import comparison, floor, growth, machine, mounts, page, profiling
from bench.datasets.catalogue import DATASETS
from bench.datasets.dataset import Dataset, folder
from bench.measure import NotMeasured
from bench.node import figures, run
from bench.peers import missing
from bench.results import Report
from bench.terminal import print_report
from deploy.driver import CommandFailed

_USUAL = ("mixed", "image", "small")
_ROUNDS = 5
_SHORT_SCALE = 0.125


def main() -> int:
    """Run a command; 1 and one line when a contestant failed, 130 when interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = _parser().parse_args()
    try:
        arguments.command(arguments)
    except (NotMeasured, CommandFailed) as error:
        _say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        _say("bench: interrupted")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--short", action="store_true", help="small and once: whether it works")
    common.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, for `report`")
    common.add_argument("--place", type=_folder, metavar="DIR", help="where to work; default: the temporary folder")
    _add_compare(commands.add_parser("compare", parents=[common], help="Oort and its peers, and the targets"))
    _add_growth(commands.add_parser("growth", parents=[common], help="Oort alone, 1 to 16 GiB and 10 k to 1 M files"))
    _add_node(commands.add_parser("node", parents=[common], help="one node under many clients, beside rclone"))
    _add_mount(commands.add_parser("mount", parents=[common], help="ls -lR of a mounted vault, beside restic's mount"))
    _add_floor(commands.add_parser("floor", parents=[common], help="what bare calls take of a first backup to S3"))
    _add_profile(
        commands.add_parser("profile", parents=[common], help="where the time goes, by function, at both ends")
    )
    _add_report(commands.add_parser("report", help="put figures into docs/benchmarks.md and its chart"))
    return parser


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_compare)
    parser.add_argument(
        "--dataset",
        action="append",
        choices=[*DATASETS, "all"],
        help=f"may be repeated; default: {', '.join(_USUAL)}",
    )
    parser.add_argument("--source", type=_folder, metavar="DIR", help="a real folder instead, as it is")
    parser.add_argument("--rounds", type=_count, help=f"whose medians are shown; default {_ROUNDS}, 1 with --short")


def _add_growth(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_growth)
    parser.add_argument("--rounds", type=_count, default=1, help="whose medians are shown; default 1")


def _add_node(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_node)
    parser.add_argument("--profile", action="store_true", help="where the node's time goes, by function")
    parser.add_argument("--workers", type=_count, default=1, help="processes of the node; default 1")


def _add_mount(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_mount)
    parser.add_argument("--rounds", type=_count, help=f"whose medians are shown; default {_ROUNDS}, 1 with --short")


def _add_floor(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_floor)
    parser.add_argument(
        "--rounds", type=_count, help=f"of which the middle one is shown; default {_ROUNDS}, 1 with --short"
    )
    parser.add_argument("--dataset", choices=list(DATASETS), default="image", help="default image")


def _add_profile(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_profile)
    parser.add_argument("work", choices=["backup", "restore"], nargs="?", default="backup")
    parser.add_argument("--dataset", choices=list(DATASETS), default="image", help="default image")


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_report)
    parser.add_argument("figures", type=Path, nargs="+", metavar="FILE", help="of --json, in the order of the page")
    parser.add_argument("--docs", type=_folder, default=Path("docs"), metavar="DIR", help="default: docs")


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
    if arguments.json:
        report.save(arguments.json)
    print_report(report)


def _growth(arguments: argparse.Namespace) -> None:
    found = growth.grow(short=arguments.short, rounds=arguments.rounds, place=arguments.place, say=_say)
    if arguments.json:
        found.save(arguments.json)
    found.print()


def _node(arguments: argparse.Namespace) -> None:
    load = run.SHORT if arguments.short else run.FULL
    found, profiles = run.run(
        load, workers=arguments.workers, with_profile=arguments.profile, place=arguments.place, say=_say
    )
    if arguments.json:
        found.save(arguments.json)
        for profile, work in zip(profiles, (figures.PUTS, figures.GETS), strict=False):
            profile.save(arguments.json.with_name(f"{arguments.json.stem}-{work}.json"))
    found.print()
    for line in (line for profile in profiles for line in ("", *profile.lines())):
        print(line)


def _mount(arguments: argparse.Namespace) -> None:
    rounds = arguments.rounds or (1 if arguments.short else _ROUNDS)
    scale = _SHORT_SCALE if arguments.short else 1
    found = mounts.compare_mounts(scale=scale, rounds=rounds, place=arguments.place, say=_say)
    if arguments.json:
        found.save(arguments.json)
    found.print()


def _floor(arguments: argparse.Namespace) -> None:
    dataset, scale = DATASETS[arguments.dataset], _SHORT_SCALE if arguments.short else 1
    rounds = arguments.rounds or (1 if arguments.short else _ROUNDS)
    found = floor.measure_floor(dataset, scale=scale, rounds=rounds, place=arguments.place, say=_say)
    if arguments.json:
        found.save(arguments.json)
    found.print()


def _profile(arguments: argparse.Namespace) -> None:
    dataset, scale = DATASETS[arguments.dataset], _SHORT_SCALE if arguments.short else 1
    found = profiling.profile(dataset, arguments.work, scale=scale, place=arguments.place, say=_say)
    if arguments.json:
        found.save(arguments.json)
    for line in found.lines():
        print(line)


def _report(arguments: argparse.Namespace) -> None:
    page.write(arguments.docs, arguments.figures)


def _chosen(arguments: argparse.Namespace) -> list[Dataset]:
    if arguments.source:
        return [folder(arguments.source)]
    names = arguments.dataset or _USUAL
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
