"""Who can open a vault: its key files, and the change of E without touching data.

Kept true: the key files that the account's own E opens are never removed but by a change of E, when another one opens
the vault and the profile has it; so no vault is left without a key, nor a device without a way in. A change is done in
steps, and the seal beside the vault's objects says how far it is: whatever interrupts it, every device opens the vault
by the profile or by the seal, and the same command again goes on from there.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from client.account.device import Device
from client.account.mending import Mending, mending
from client.account.opening import Place, place_of
from client.account.passwords import require_strong
from client.account.seals import KEY_BYTES
from client.account.vaults import SealFile
from client.errors import BrokenSeal, DamagedVault, NotFound, NotSupported, ObjectMissing, UsageError
from client.stores.abc import StoreSession
from client.vault.keys import KeyFile, create_key_file, read_key_file
from client.vault.repository import Vault
from domain.names import SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose


@dataclass(frozen=True, slots=True)
class VaultKey:
    """A key file; `file` is None for one that cannot be read, and `damage` then says why. `is_own`: E opens it."""

    name: ObjectName
    file: KeyFile | None
    is_own: bool
    damage: str = ""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What a change of E will remove; and whether it only ends an earlier one that was interrupted."""

    removed: Sequence[ObjectName]
    is_resumed: bool


def list_keys(device: Device, vault_name: str) -> list[VaultKey]:
    """The vault's key files, by id. Raises NoSuchVault, StoreError."""
    with place_of(device, vault_name, from_cache=False) as place, place.store.open(Purpose.READ) as session:
        return _keys(session, _own_passwords(place, session))


def add_key(device: Device, vault_name: str, password: str) -> ObjectName:
    """Have a password open the vault too; answers its key file. Raises WeakPassword, StoreError."""
    password = require_strong(password)
    with mending(device, vault_name) as opened:
        return _put_key(opened.vault, password)


def remove_key(device: Device, vault_name: str, wanted: str, agree: Callable[[VaultKey], None]) -> ObjectName:
    """Remove the key file of that id, or of which it is the beginning. `agree` raises if nobody wants that.

    Raises NotFound, UsageError, StoreError.
    """
    with mending(device, vault_name) as opened:
        session = opened.vault.session
        keys = _keys(session, _own_passwords(opened.place, session))
        found = [key for key in keys if wanted and key.name.id.startswith(wanted.lower())]
        if not found:
            raise NotFound(detail=f"No key matches '{wanted}': `backup-tool key list` lists those there are.")
        if len(found) > 1:
            raise UsageError(detail=f"{len(found)} keys begin with '{wanted}': give more digits.")
        if found[0].is_own:
            raise UsageError(
                detail=f"The account itself opens the vault with the key {found[0].name.id[:8]}: it stays. "
                "`backup-tool key change` puts another in its place."
            )
        agree(found[0])
        _remove(opened, [found[0].name])
        return found[0].name


def change_key(device: Device, vault_name: str, agree: Callable[[KeyChange], None]) -> KeyChange:
    """Put another E, and another key file, in the place of the present ones. `agree` raises if nobody wants that.

    Raises OortError; NotSupported, before anything is done, where a store keeps the seal that it has.
    """
    with mending(device, vault_name) as opened:
        if opened.place.vaults.unreachable is not None:
            raise opened.place.vaults.unreachable
        return _KeyChange(opened).run(agree)


class _KeyChange:
    """One change of E; the steps are in docs/keys.md."""

    def __init__(self, opened: Mending) -> None:
        self._opened = opened
        self._place = opened.place
        self._vaults = opened.place.vaults
        self._entry = opened.place.entry
        self._session = opened.vault.session
        self._beside: bytes | None = None  # the seal that is there, as it was read or replaced last

    def run(self, agree: Callable[[KeyChange], None]) -> KeyChange:
        present = self._vaults.repository_password(self._entry)
        if present is None:
            raise AssertionError("a vault that was opened has its key in the profile")
        former, new, is_resumed = self._where_it_is(present)
        change = KeyChange([key.name for key in _keys(self._session, [former]) if key.is_own], is_resumed)
        if not is_resumed:
            agree(change)
        if present != new:
            self._begin(former, new)
        self._end(former, new, change.removed)
        return change

    def _where_it_is(self, present: str) -> tuple[str, str, bool]:
        """The E to go and the one to come; whether the seal knows of both already. Raises NotSupported."""
        seal = self._seal()
        opens = any(key.is_own for key in _keys(self._session, [present]))
        if seal is None:
            return present, secrets.token_hex(KEY_BYTES), False
        sealed, following, former = (
            self._opened_seal(seal, key) for key in (seal.sealed_key, seal.next_key, seal.former_key)
        )
        if sealed and following and present in (sealed, following):
            return sealed, following, True
        if former and sealed == present:
            return former, present, True
        # The profile of an old auth database may have one that opens nothing any more.
        return present if opens or sealed is None else sealed, secrets.token_hex(KEY_BYTES), False

    def _begin(self, former: str, new: str) -> None:
        """Have the new E open the vault, and then have the profile know it; until then the old one counts."""
        self._replace_seal(former, next_key=new)
        if not any(key.is_own for key in _keys(self._session, [new])):
            _put_key(self._opened.vault, new)
        self._opened.ensure_locked()
        self._vaults.change_key(self._entry, self._sealed(new))

    def _end(self, former: str, new: str, removed: Sequence[ObjectName]) -> None:
        self._replace_seal(new, former_key=former)
        _remove(self._opened, removed)
        self._replace_seal(new)

    def _seal(self) -> SealFile | None:
        """The seal, if there is one that can be read. Raises NotSupported if it is another account's."""
        with suppress(ObjectMissing, BrokenSeal):
            self._beside = self._session.get(SEAL)
            seal = SealFile.from_bytes(self._beside)
            if seal.user != self._place.device.account.user_id:
                detail = "another account made this vault, and would be locked out"
                raise NotSupported(place=self._place.store.place, detail=detail)
            return seal
        return None

    def _opened_seal(self, seal: SealFile, key: bytes) -> str | None:
        with suppress(BrokenSeal):
            return self._vaults.open_sealed(seal.vault, key) if key else None
        return None

    def _replace_seal(self, key: str, *, next_key: str = "", former_key: str = "") -> None:
        sealed, following, former = (self._sealed(one) if one else b"" for one in (key, next_key, former_key))
        user = self._place.device.account.user_id
        body = SealFile(user, self._entry.id, sealed, following, former).to_bytes()
        self._opened.ensure_locked()
        self._session.replace_seal(body, self._beside)
        self._beside = body

    def _sealed(self, password: str) -> bytes:
        return self._vaults.seal_key(self._entry.id, password)


def _own_passwords(place: Place, session: StoreSession) -> list[str]:
    """Every E with which a device of the account may open the vault: of the profile, and of the seal."""
    found = [place.vaults.repository_password(place.entry)]
    with suppress(ObjectMissing, BrokenSeal):
        found += place.vaults.keys_beside(session.get(SEAL))
    return [password for password in dict.fromkeys(found) if password is not None]


def _keys(session: StoreSession, own: Iterable[str]) -> list[VaultKey]:
    own = list(own)
    found = []
    for info in session.list(ObjectKind.KEY):
        try:
            file = read_key_file(session.get(info.name), str(info.name))
            is_own = any(file.open(password) is not None for password in own)
        except (DamagedVault, ObjectMissing) as error:
            found.append(VaultKey(info.name, None, is_own=False, damage=str(error)))
        else:
            found.append(VaultKey(info.name, file, is_own))
    return found


def _put_key(vault: Vault, password: str) -> ObjectName:
    """Store a key file, and see that it opens: what it replaces may go after that."""
    body = create_key_file(password, vault.keys)
    name = ObjectName.of(ObjectKind.KEY, body)
    vault.session.put(name, body)
    if read_key_file(vault.session.get(name), str(name)).open(password) != vault.keys:
        raise DamagedVault(name=name, detail="it does not open what it was made for: check this machine's memory")
    return name


def _remove(opened: Mending, keys: Sequence[ObjectName]) -> None:
    """Raises NotSupported where a store does not let go of them."""
    opened.ensure_locked()
    opened.vault.session.mark()
    for name, refusal in opened.vault.session.condemn(keys).items():
        raise NotSupported(place=opened.place.store.place, detail=f"{name} stays: {refusal.reason}")
