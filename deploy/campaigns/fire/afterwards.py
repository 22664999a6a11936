"""What must hold after a fire: all that was acknowledged is there, and everybody goes on.

Kept true: every check is made, whatever those before it have found.
"""

from hashlib import sha256

from deploy.campaigns.devices.proof import Proof, files_below, some
from deploy.campaigns.fire.fires import DISKS, disks_of
from deploy.local.folder import StackFolder
from domain.names import CONFIG, SEAL

_PATIENCE_SECONDS = 180.0
_ROOT_FILES = (CONFIG.path, SEAL.path)


class Afterwards(Proof):
    """Of one vault, at which one device works."""

    def of_vault(self) -> None:
        self._expect("every acknowledged snapshot is listed, also what lay in the waste basket", self._lists)
        self._expect("each of them restores as its tree was", self._restores)
        self._expect("backup-tool check --read-data is clean", self._check)
        self._expect("the backup that was interrupted runs again and ends with 0", self._goes_on)
        self._expect("each copy is whole, byte for byte", self._on_disks, _PATIENCE_SECONDS)

    def _goes_on(self) -> str:
        run = self.works[0].back_up()
        if run.code != 0 or run.summary is None:
            return str(run)
        return "" if run.summary["files_unmodified"] else f"it has read all again: {run.summary}"

    def _on_disks(self) -> str:
        try:
            return self._copies_on_disks()
        except FileNotFoundError as error:
            return f"{error.filename} went to another place while it was looked at"

    def _copies_on_disks(self) -> str:
        """Of each node that has the vault, all disks together. Raises FileNotFoundError while anything moves."""
        stack = StackFolder.find(self.operator.data)
        bucket = self.works[0].device.recovery(self.shared.vault)["bucket"]
        live, wrong = self._live(), []
        copies = []
        for node in DISKS:
            found = {
                name: sha256(path.read_bytes()).hexdigest()
                for disk in disks_of(stack, node)
                for name, path in files_below(disk / "buckets" / bucket).items()
            }
            if found:
                copies.append(found)
                wrong += [f"{name} is missing from {node}" for name in sorted(live - found.keys())]
                wrong += [
                    f"{name} is damaged on {node}"
                    for name, digest in found.items()
                    if name not in _ROOT_FILES and not name.endswith(digest)
                ]
        if not copies or any(found != copies[0] for found in copies):
            wrong.append(f"the copies differ, of {len(copies)} nodes")
        return some(wrong)
