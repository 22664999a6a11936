"""What a prune is told and tells: its limits from words, its report as lines and as JSON."""

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from client.cli.amounts import size_of
from client.cli.console import note, plural, printable, say, size_text
from client.cli.parameters import Option
from client.errors import UsageError

if TYPE_CHECKING:
    from client.retention.prune import PruneLimits, PruneReport

_SHARE = re.compile(r"(\d{1,2}(?:\.\d{1,3})?)%", re.ASCII)

Prune = Annotated[bool, Option("--prune", help="Then free the space of what no snapshot needs.")]
MaxUnused = Annotated[
    str | None,
    Option("--max-unused", help="With --prune: what may stay unused, as 5% of the vault or 2G.", metavar="AMOUNT"),
]
MaxRepack = Annotated[
    str | None,
    Option("--max-repack-size", help="With --prune: repack packs of at most so many bytes.", metavar="SIZE"),
]


def limits_of(*, prune: bool, max_unused: str | None, max_repack: str | None) -> "PruneLimits | None":
    """How far a prune goes; None if there is none. Raises UsageError."""
    if not prune:
        if max_unused is not None or max_repack is not None:
            raise UsageError(detail="--max-unused and --max-repack-size are for --prune: give it too")
        return None
    from client.retention.prune import PruneLimits

    repack = None if max_repack is None else size_of(max_repack)
    if max_unused is None:
        return PruneLimits(repack_bytes=repack)
    share = _SHARE.fullmatch(max_unused)
    if share is not None:
        return PruneLimits(unused_share=float(share[1]) / 100, repack_bytes=repack)
    return PruneLimits(unused_bytes=size_of(max_unused), repack_bytes=repack)


def describe_prune(report: "PruneReport") -> dict[str, Any]:
    """For JSON: the fields of the report; of findings how many there are, and the first by name."""
    fields = {name: getattr(report, name) for name in report.__dataclass_fields__}
    for name in ("needed", "unused", "duplicate", "left"):
        fields[name] = asdict(fields[name])
    for name in ("problems", "damaged", "refused"):
        found = fields[name]
        fields[name] = {"count": found.count, "named": list(found.named)}
    return fields


def show_prune(report: "PruneReport") -> None:
    """For a person; what is wrong goes to standard error."""
    for findings, what in (
        (report.problems, "error"),
        (report.damaged, "damaged, and left as it is"),
        (report.refused, "kept by the storage"),
    ):
        for one in findings.named:
            note(f"backup-tool: {what}: {printable(one)}")
        if findings.count > len(findings.named):
            note(f"backup-tool: {what}: {findings.count - len(findings.named):,} more")
    if report.problems:
        say("No space was freed: what is named above must be mended first (`backup-tool check`).")
        return
    would = "would be " if report.is_plan else ""
    say(
        f"{size_text(report.freed_bytes)} {would}freed and {size_text(report.added_bytes)} {would}written anew: "
        f"{plural(report.removed_packs, 'pack')} {would}removed, {report.repacked_packs:,} of them repacked; "
        f"{size_text(report.left.bytes)} {'stay' if report.is_plan else 'stays'} unused."
    )
    if report.in_use:
        kept = ((report.packs_in_use, "pack"), (report.index_files_in_use, "index file"))
        told = " and ".join(plural(count, noun) for count, noun in kept if count)
        say(f"Kept for now, for sessions that use them: {told}. A later prune removes what nobody needs by then.")
    if report.unmoved_packs:
        note(
            f"backup-tool: {plural(report.unmoved_packs, 'pack')} could not be repacked: "
            f"{printable(report.full.partition('. ')[0])}. Repeat this when there is room."
        )
    if report.postponed_packs:
        say(f"{plural(report.postponed_packs, 'pack')} left to the next prune, by --max-repack-size.")
