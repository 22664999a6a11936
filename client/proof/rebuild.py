"""`rebuild-index`: the index made anew from the packs themselves.

Kept true: see index_rewrite.py; what is called damaged has been read, and is named with what is lost in it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from client.proof.index_rewrite import Rewritten, rewrite_index
from client.proof.survey import PackFinding, Progress, Survey
from client.vault.index import Index
from client.vault.repository import Vault, reason_unread
from domain.names import ObjectName


@dataclass(frozen=True, slots=True)
class UnreadIndex:
    """An index file that cannot be read."""

    name: ObjectName
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: it cannot be read ({self.detail})"


Finding = PackFinding | UnreadIndex


def rebuild_index(
    vault: Vault,
    *,
    read_headers: bool,
    tell: Callable[[Finding], None] = lambda _: None,
    progress: Progress = lambda *_: None,
    ensure_locked: Callable[[], None] = lambda: None,
) -> Rewritten:
    """Make the index anew, in a session of retention, under the exclusive lock where there are locks.

    With `read_headers` every pack's header is read, else of those alone that are in no index file, or of another size
    than it says. `tell` gets what is wrong. Raises StoreError, LockLost.
    """
    vault.session.mark()
    with index_read_anew(vault, tell, progress) as index:
        files = list(index.files)
        survey = Survey(vault, index, vault.doubts.all(), read_headers=read_headers, progress=progress)
        for finding in survey.run():
            tell(finding)
        done = rewrite_index(vault, index, survey, files, ensure_locked)
    settle_doubts(vault, survey)
    return done


@contextmanager
def index_read_anew(vault: Vault, tell: Callable[[Finding], None], progress: Progress) -> Iterator[Index]:
    """All index files read from the vault and not from a cache; those that cannot be are told. Raises StoreError."""

    def read(done: int, total: int) -> None:
        progress("index files", done, total)

    with Index(vault, scratch=vault.cache_folder, progress=read) as index:
        for name, error in index.damaged.items():
            tell(UnreadIndex(name, reason_unread(error)))
        yield index


def settle_doubts(vault: Vault, survey: Survey) -> None:
    """What was looked at is doubted no more, but for what is damaged and still lies there."""
    for pack in survey.damaged():
        vault.doubts.add(pack)
    vault.doubts.settle(survey.healed)
