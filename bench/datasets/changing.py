"""Data that is worked on between two backups."""

from pathlib import Path

from bench.datasets.content import KIB, MIB, Noise, text
from bench.datasets.dataset import Dataset, written
from bench.datasets.files import paths

LOG_ABOUT = """\
One log of 512 MiB of text; a sixteenth more is appended between the two backups; no duplicates."""
DOCUMENTS_ABOUT = """\
1,000 documents, about 500 MB, of 32 KiB to 2 MiB, each doubling as likely as the next; one half is text, one does not \
compress (office files are archives); no duplicates. Between the two backups 1 to 4 KiB are inserted within each tenth \
document."""

_LOG_MIB = 512
_DOCUMENTS = 1000
_EDITED = 10  # one of so many


def write_log(root: Path, scale: float) -> None:
    _append(root / "service.log", int(_LOG_MIB * scale), Noise("log"))


def append_to_log(root: Path) -> None:
    log = root / "service.log"
    _append(log, max(1, log.stat().st_size // MIB // 16), Noise("appended"))


def _append(log: Path, mebibytes: int, noise: Noise) -> None:
    prose = text()
    with log.open("ab") as file:
        for _ in range(mebibytes):
            file.write(prose.make(noise, MIB))


def write_documents(root: Path, scale: float) -> None:
    noise, prose = Noise("documents"), text()
    for number, path in enumerate(paths(root, int(_DOCUMENTS * scale))):
        make = Noise.bytes if number % 2 else prose.make
        path.write_bytes(make(noise, noise.size(32 * KIB, 2 * MIB)))


def edit_documents(root: Path) -> None:
    noise, prose = Noise("edits"), text()
    for path in sorted(root.rglob("*.dat"))[::_EDITED]:
        body = path.read_bytes()
        place = noise.below(len(body))
        path.write_bytes(body[:place] + prose.make(noise, noise.size(KIB, 4 * KIB)) + body[place:])


LOG = Dataset("log", LOG_ABOUT, written(write_log), append_to_log)
DOCUMENTS = Dataset("documents", DOCUMENTS_ABOUT, written(write_documents), edit_documents)
