"""A user's bare restic, whose repository is a vault that it reaches by the REST port."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

from deploy.campaigns.devices.trees import Manifest, Tree, differences, manifest
from deploy.campaigns.fire.fires import Wrong
from deploy.driver import Device
from deploy.tests.end_to_end.restic import Restic

_PASSWORD = "a password of its own"  # noqa: S105 - of a repository that lives as long as the campaign
FRESH_BYTES = 16 << 20  # that each backup stores in a fire, no faster than _LIMIT_KIB in a second
_LIMIT_KIB = 512
# Interrupted, it repeats the removal of its lock, which went with the catalogue, for about a minute.
_ENDS_SECONDS = 120.0


class Bare:
    """Knows of each snapshot that restic has told of what it must be."""

    def __init__(self, device: Device, vault: str, tree: Tree, target: Path) -> None:
        found = device.tool.ok("vault", "rest", vault, "--json").json()
        self._restic = Restic(found["url"], _PASSWORD, "--cacert", found["ca"])
        self._tree, self._target = tree, target
        self._output = target.with_name("restic.log")
        self._known: dict[str, Manifest] = {}
        self._restic.run("init")

    @property
    def snapshots(self) -> int:
        return len(self._known)

    def back_up(self) -> None:
        before = manifest(self._tree.root)
        self._remember(self._restic.run("backup", "--json", str(self._tree.root)), before)

    def start(self) -> "subprocess.Popen[str]":
        """A backup of something new, which takes half a minute."""
        self._tree.change()
        self._tree.freshen(FRESH_BYTES)
        line = ("backup", "--json", "--limit-upload", str(_LIMIT_KIB), str(self._tree.root))
        with self._output.open("w") as output:
            return self._restic.start(*line, output=output)

    @property
    def has_begun(self) -> bool:
        """Whether the one that was started has its lock, knows what is stored, and reads the tree."""
        return '"message_type":"status"' in self._output.read_text(errors="replace")

    @staticmethod
    def interrupt(running: "subprocess.Popen[str]") -> None:
        """As its user would who sees it repeat what it cannot do."""
        if running.poll() is None:
            running.send_signal(signal.SIGINT)

    def end(self, running: "subprocess.Popen[str]") -> int:
        """Wait for one that was interrupted, and kill it if that takes too long. Answers its exit code."""
        try:
            running.wait(_ENDS_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        if running.returncode == 0:
            self._remember(self._output.read_text(errors="replace"), manifest(self._tree.root))
        else:
            self._restic.run("unlock", "--remove-all")
        return running.returncode

    def prove(self) -> str:
        """That it checks clean, all that was told is listed, and the newest restores; what is wrong, or nothing."""
        said = self._restic.run("check", "--read-data")
        if "no errors were found" not in said:
            return said
        listed = {one["id"] for one in json.loads(self._restic.run("snapshots", "--json"))}
        if missing := self._known.keys() - listed:
            return f"not listed any more: {', '.join(sorted(missing))}"
        newest = list(self._known)[-1]
        self._restic.run("restore", newest, "--target", str(self._target))
        found = manifest(self._target / self._tree.root.relative_to("/"))
        shutil.rmtree(self._target)
        return "; ".join(list(differences(self._known[newest], found))[:5])

    def _remember(self, stdout: str, tree: Manifest) -> None:
        told = [json.loads(line) for line in stdout.splitlines() if line.startswith("{")]
        ids = [one["snapshot_id"] for one in told if one.get("message_type") == "summary"]
        if len(ids) != 1:
            raise Wrong(f"restic's backup ended with 0 and told of {len(ids)} snapshots: {stdout[-500:]}")
        self._known[self._full(ids[0])] = tree

    def _full(self, snapshot: str) -> str:
        """Of the first digits, which are all that restic tells."""
        listed: list[str] = [one["id"] for one in json.loads(self._restic.run("snapshots", "--json"))]
        found = [name for name in listed if name.startswith(snapshot)]
        if len(found) != 1:
            raise Wrong(f"restic told of snapshot {snapshot}, and lists {listed}")
        return found[0]
