"""A large vault of which a snapshot was removed: what prune has to find and to move is known beforehand.

Kept true: of every ten folders the later snapshot lacks two as a whole and three tenths of the files of two others.
A pack holds blobs of all files of its folder: a fifth of the packs is unneeded, another fifth three tenths unneeded.
"""

from pathlib import Path

from deploy.campaigns.index.large_vault import LargeVault, Shape, make_large_vault

_PACK_BLOBS = 100
_FILES = 100
_KEPT_FILES = 70
_GONE_FOLDERS = (3, 7)  # of each ten
_THINNED_FOLDERS = (1, 5)


def make_aged_vault(path: Path, blobs: int) -> LargeVault:
    """Make a vault of `blobs` data blobs, a multiple of SMALLEST, from which the first snapshot is removed already."""
    vault = make_large_vault(path, blobs, Shape(_PACK_BLOBS, interleaved=True, later=later_files))
    (path / "snapshots" / vault.snapshot).unlink()
    return vault


def later_files(folder: int) -> range:
    """The files that the later snapshot has of a folder."""
    kind = folder % 10
    return range(0 if kind in _GONE_FOLDERS else _KEPT_FILES if kind in _THINNED_FOLDERS else _FILES)
