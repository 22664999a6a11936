"""Trees to back up."""

import os
import socket
from pathlib import Path
from random import Random

MIB = 1 << 20


def a_tree(root: Path, seed: int = 1) -> Path:
    """Files of many sizes, folders, links, odd names, modes, times, an attribute: what an ordinary home holds."""
    random = Random(seed)
    root.mkdir(parents=True)
    for folder in ("documents/letters", "empty", "pictures", "deep/" + "/".join("abcdefgh")):
        (root / folder).mkdir(parents=True)
    (root / "documents/empty").touch()
    for number in range(60):
        (root / f"documents/letters/{number:03d}.txt").write_bytes(random.randbytes(random.randint(0, 9_000)))
    (root / "pictures/large.raw").write_bytes(random.randbytes(9 * MIB))
    (root / "pictures/zeros").write_bytes(bytes(3 * MIB))
    (root / "pictures/copy.raw").write_bytes((root / "pictures/large.raw").read_bytes())
    (root / "deep/a/b/c/note").write_text("at the bottom\n")
    (root / "documents/Ünïcode ☂ name").write_text("umbrella")
    (root / 'documents/quote " back \\ slash').write_text("quotes")
    (root / "documents/line\nbreak").write_text("line break")
    os.close(os.open(os.fsencode(root) + b"/documents/not-utf8-\xff\xfe", os.O_CREAT | os.O_WRONLY, 0o640))
    (root / "to-letter").symlink_to("documents/letters/001.txt")
    (root / "dangling").symlink_to("nowhere/at/all")
    (root / "hard").hardlink_to(root / "documents/letters/002.txt")
    os.mkfifo(root / "pipe", 0o622)
    (root / "documents/letters/003.txt").chmod(0o4711)
    (root / "empty").chmod(0o1750)
    os.setxattr(root / "documents/letters/004.txt", "user.comment", b"kept \x00 too")
    for path in sorted(root.rglob("*"), reverse=True):
        nanoseconds = random.randint(10**18, 17 * 10**17)
        os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)
    os.utime(root, ns=(10**18 + 7, 10**18 + 7))
    return root


def incompressible(path: Path, mib: int, seed: int) -> Path:
    """A file that is sent as large as it is."""
    random = Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(random.randbytes(MIB))
    return path


def restored(target: Path, source: Path) -> Path:
    """Where a restore puts an absolute source path below its target."""
    return target / source.relative_to("/")


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
