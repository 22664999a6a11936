"""backup-tool rebuild-index"""

from typing import TYPE_CHECKING, Annotated

import click

from client.cli.console import emit, note, plural, printable, say, telling
from client.cli.invocation import Invocation, Json, VaultName
from client.cli.parameters import Option
from client.cli.progress import Progress
from client.errors import DamagedVault

if TYPE_CHECKING:
    from client.proof.index_rewrite import Rewritten
    from client.proof.rebuild import Finding

ReadAllPacks = Annotated[bool, Option("--read-all-packs", help="Read the header of every pack, not of doubtful ones.")]


def rebuild_index(
    context: click.Context, vault: VaultName, read_all_packs: ReadAllPacks = False, as_json: Json = False
) -> int:
    """Make a vault's index anew from its packs. Exit code 8: packs are missing or damaged; they are named."""
    from client.account.mending import mending
    from client.proof.rebuild import rebuild_index as rebuild

    findings = Findings(as_json=as_json)
    with Invocation.of(context).device() as device, mending(device, vault) as opened:
        done = rebuild(
            opened.vault,
            read_headers=read_all_packs,
            tell=findings,
            progress=Progress(as_json=as_json),
            ensure_locked=opened.ensure_locked,
        )
    with telling(f"the index of {vault} is made anew"):
        if as_json:
            emit({"type": "summary", **describe_rewritten(done), "lost_blobs": findings.lost})
        else:
            say(f"The index of {vault} is made anew: {rewritten_text(done)}.")
            if findings.lost:
                say(f"{plural(findings.lost, 'blob')} lost: `backup-tool repair --vault {vault}` says of which files.")
    return DamagedVault.exit_code if findings.is_damaged else 0


class Findings:
    """Tells what is wrong with packs and index files as it is found, and counts what is lost by it."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.lost = 0
        self.is_damaged = False

    def __call__(self, finding: "Finding") -> None:
        from client.proof.survey import LOSSES, PackFinding

        if isinstance(finding, PackFinding):
            self.lost += finding.lost
            self.is_damaged |= finding.verdict in LOSSES
        if self._as_json:
            emit({"type": "finding", **describe_finding(finding)})
        else:
            note(printable(f"backup-tool: {finding}"))


def describe_finding(finding: "Finding") -> dict[str, object]:
    from client.proof.survey import PackFinding

    if isinstance(finding, PackFinding):
        verdict = finding.verdict.name.lower()
        return {
            "name": str(finding.pack),
            "verdict": verdict,
            "detail": finding.detail,
            "blobs": finding.blobs,
            "lost": finding.lost,
        }
    return {"name": str(finding.name), "verdict": "unreadable", "detail": finding.detail, "blobs": None, "lost": None}


def rewritten_text(done: "Rewritten") -> str:
    """What was written, as a person reads it."""
    said = f"{plural(done.packs, 'pack')} in {plural(done.new_files, 'index file')}"
    if done.moved_blobs:
        said += f", {plural(done.moved_blobs, 'blob')} saved from damaged packs"
    for name, reason in done.kept:
        note(printable(f"backup-tool: {name} stays: {reason}"))
    return said


def describe_rewritten(done: "Rewritten") -> dict[str, object]:
    return {
        "packs": done.packs,
        "moved_blobs": done.moved_blobs,
        "index_files": done.new_files,
        "removed_index_files": done.old_files,
        "kept_index_files": {str(name): reason for name, reason in done.kept},
    }
