"""What the home keeps of a vault to be faster, and its end when the vault leaves the account.

Kept true: of two vaults with one repository, as after it was copied, the one that stays keeps what both used. What this
device has lately stored on a store (`remembered`) stays: a prune that another process runs there relies on it.
"""

import re
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from client.account.device import Device
from client.errors import OortError
from client.vault.environments import environments

_FOLDER = "vaults"
_NOTE = ".repository"  # names the repository of a vault, by which its index and folders lie here
_REPOSITORY = re.compile(rb"[0-9a-f]{64}")


def note_repository(device: Device, vault_id: str, repository: str) -> None:
    """Know what is a vault's here, when it cannot be asked any more. Does without where the home cannot be written."""
    name = f"{_FOLDER}/{UUID(vault_id)}{_NOTE}"
    body = repository.encode()
    with suppress(OortError):
        if device.home.read(name) != body:
            device.home.write(name, body)


def forget_caches(device: Device, vault_id: str) -> None:
    """Free what a vault's caches take. Who still uses them goes on. Raises nothing for what the disk refuses."""
    folder, vault = device.home.folder / _FOLDER, str(UUID(vault_id))
    repository = _noted(folder / f"{vault}{_NOTE}")
    others = {_noted(note) for note in folder.glob(f"*{_NOTE}") if note.name != f"{vault}{_NOTE}"}
    if repository is not None and repository not in others:
        for cache in (folder / repository, folder / f"{repository}.folders"):
            if cache.exists():
                environments.drop(cache.absolute())
    shutil.rmtree(folder / f"{vault}.objects", ignore_errors=True)
    with suppress(OortError):
        device.home.forget(f"cuts/{vault}", f"{_FOLDER}/{vault}{_NOTE}")


def _noted(note: Path) -> str | None:
    try:
        body = note.read_bytes()
    except OSError:
        return None
    return body.decode() if _REPOSITORY.fullmatch(body) else None
