"""Prune a vault in a local folder, as a retention does: the program whose memory and time the campaign measures.

Run with the folder as its argument and the repository password on its standard input.
"""

import sys
from pathlib import Path

from client.retention.prune import PruneReport, prune
from client.stores.local import LocalStore
from client.vault.locks import vault_lock
from client.vault.repository import open_vault
from domain.sessions import Purpose


def main() -> int:
    path, password = Path(sys.argv[1]), sys.stdin.readline().strip()
    with (
        LocalStore(path).open(Purpose.RETENTION) as session,
        open_vault(session, password) as vault,
        vault_lock(vault, needed=True, exclusive=True) as lock,
    ):
        report = prune(vault, ensure_locked=lock.ensure_held if lock else lambda: None)
    sys.stdout.write(f"{described(report)}\n")
    sys.stdout.write("".join(f"{problem}\n" for problem in report.problems.named))
    return 1 if report.problems else 0


def described(report: PruneReport) -> str:
    return (
        f"{report.needed.blobs:,} blobs needed, {report.unused.blobs:,} not; {report.removed_packs:,} packs removed, "
        f"{report.repacked_packs:,} of them repacked into {report.new_packs:,}"
    )


if __name__ == "__main__":
    sys.exit(main())
