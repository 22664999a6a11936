"""Vaults with two snapshots of some files, which tests then harm."""

import os
from collections.abc import Callable
from pathlib import Path

from client.proof.index_rewrite import Rewritten
from client.proof.rebuild import Finding, rebuild_index
from client.proof.survey import PackFinding
from client.stores.abc import StoreSession
from client.testing.vaults import PASSWORD, VaultForTests, a_vault
from client.vault.blobs import BlobKind, PackEntry
from client.vault.index_files import IndexedPack, IndexFile, encode_index_file
from client.vault.packs import PackBuilder
from client.vault.repository import open_vault
from client.vault.sealing import seal_batch
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose

Around = Callable[[StoreSession], StoreSession]
BIG = 20_000


class HarmedVault:
    """Snapshot `first` of `old`, `older` and `sub/deep`, snapshot `second` with `new` as well; `files` as they were."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "source"
        (self.source / "sub").mkdir(parents=True)
        self.write("old", os.urandom(BIG))
        self.write("older", os.urandom(BIG))
        self.write("sub/deep", os.urandom(BIG))
        (folder / "cache").mkdir()
        self.vault: VaultForTests = a_vault(folder / "vault", cache=folder / "cache")
        self.first = self.vault.backup(self.source).snapshot
        before = self.packs()
        self.write("new", os.urandom(BIG))
        self.second = self.vault.backup(self.source, parent=self.first).snapshot
        self.new_packs = self.packs() - before

    def write(self, name: str, body: bytes) -> None:
        (self.source / name).write_bytes(body)

    def packs(self) -> set[Path]:
        return set(self.vault.objects(ObjectKind.PACK))

    def pack_of(self, kind: BlobKind, *, new: bool = False) -> Path:
        """The file of the pack with most blobs of a kind, of those that the second backup stored, or the first.

        Data of the first lies in two packs at random, so this one has at least two of its three blobs.
        """
        with self.vault.opened() as vault:
            found = [
                (len(entries), path)
                for name, entries in vault.index.packs()
                for path in [self.vault.path / name.path]
                if entries[0].kind is kind and (path in self.new_packs) is new
            ]
        return max(found)[1]

    def rot(self, pack: Path, offset: int = 0) -> None:
        """Flip one bit of the blob that begins at an offset of a pack."""
        body = bytearray(pack.read_bytes())
        body[offset + 20] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(body)

    def entries(self, pack: Path) -> list[PackEntry]:
        with self.vault.opened() as vault:
            return vault.index.entries_of_pack(ObjectName(ObjectKind.PACK, pack.name))

    def list_anew(self, change: Callable[[Path, list[PackEntry]], list[PackEntry]]) -> None:
        """One index file in place of all, with the entries of each pack as `change` answers them; none, no pack."""
        with self.vault.opened(Purpose.RETENTION) as vault:
            changed = [
                IndexedPack.of(bytes.fromhex(name.id), entries)
                for name, before in vault.index.packs()
                if (entries := change(self.vault.path / name.path, before))
            ]
            for path in self.vault.objects(ObjectKind.INDEX):
                path.unlink()
            vault.save_unpacked(ObjectKind.INDEX, encode_index_file(IndexFile(changed)))

    def twice(self, pack: Path, *which: PackEntry) -> Path:
        """Store some blobs of a pack in another one too, beside a new one; that is listed in an index file."""
        with self.vault.opened(Purpose.BACKUP) as vault:
            builder = PackBuilder(vault.keys, which[0].kind)
            body = pack.read_bytes()
            for entry in which:
                builder.move(entry, body[entry.offset : entry.offset + entry.length])
            for sealed in seal_batch(vault.keys, which[0].kind, [os.urandom(100)]):
                builder.add(sealed)
            made, packed = builder.finish()
            vault.session.put(made.name, packed)
            vault.save_unpacked(ObjectKind.INDEX, encode_index_file(IndexFile([made])), [made.name])
        return self.vault.path / made.name.path

    def forget_doubts(self) -> None:
        """As on another device, which has found nothing damaged."""
        with self.vault.opened() as vault:
            vault.doubts.settle(vault.doubts.all())

    def rebuild(self, *, read_headers: bool = False, around: Around | None = None) -> tuple[Rewritten, list[Finding]]:
        findings: list[Finding] = []
        with self.vault.store.open(Purpose.RETENTION) as plain:
            session = around(plain) if around else plain
            with open_vault(session, PASSWORD, self.vault.cache) as vault:
                done = rebuild_index(vault, read_headers=read_headers, tell=findings.append)
        return done, findings

    def restored(self, target: Path, snapshot: ObjectName | str = "latest") -> dict[str, bytes]:
        wanted = snapshot if isinstance(snapshot, str) else snapshot.id
        self.vault.restore(target, wanted)
        there = target / self.source.relative_to("/")
        return {str(path.relative_to(there)): path.read_bytes() for path in there.rglob("*") if path.is_file()}

    def whole(self, *without: str) -> dict[str, bytes]:
        files = (path for path in self.source.rglob("*") if path.is_file())
        found = {str(path.relative_to(self.source)): path.read_bytes() for path in files}
        return {name: body for name, body in found.items() if name not in without}


def verdicts(findings: list[Finding]) -> dict[str, str]:
    """What was said of each pack, by its id."""
    return {found.pack.id: found.verdict.name for found in findings if isinstance(found, PackFinding)}
