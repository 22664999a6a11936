"""Retention policies in a user's profile, which every device of the user goes by.

Kept true: a policy is stored only if it is one (domain/retention_policy.py), for a vault and an item of the caller; an
item without a policy goes by its vault's default, and a vault without one keeps everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.retention_policy import BadPolicy, parse_policy
from services.auth.gate import Caller
from services.auth.store import items, retention, vaults
from services.auth.store.retention import StoredPolicy
from services.auth.store.vaults import Vault
from services.common.database import Database, Unit
from services.common.errors import InvalidArgument, NotFound

_MOST_ITEMS = 500  # with a policy of their own in a vault, so that a vault fits into a message


@dataclass(frozen=True, slots=True)
class VaultRetention:
    """The policies of one vault, and when the last pass over all of it ended, which freed space too."""

    policies: tuple[StoredPolicy, ...] = ()
    last_pass: datetime | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    db: Database

    async def set(self, caller: Caller, vault: UUID, item: UUID | None, policy: object) -> None:
        """Store the policy of a vault, or of an item in it; None takes it away. Raises NotFound, InvalidArgument."""
        try:
            document = None if policy is None else parse_policy(policy).to_document()
        except BadPolicy as error:
            raise InvalidArgument(detail=f"policy.{error}.") from None
        async with self.db.unit(caller.tenant, caller.user) as unit:
            known = await vaults.get(unit, vault)
            if known is None or known.removed:
                raise NotFound(what="such vault")
            if item is not None and await items.get(unit, item) is None:
                raise NotFound(what="such item")
            if document is None:
                await retention.delete(unit, vault, item)
                return
            await retention.put(unit, known, item, document)
            if len(await retention.of_vaults(unit, [vault])) > _MOST_ITEMS + 1:
                raise InvalidArgument(detail=f"At most {_MOST_ITEMS} items of a vault have policies of their own.")


async def of_vaults(unit: Unit, rows: Sequence[Vault]) -> dict[UUID, VaultRetention]:
    """The retention of each vault that has any."""
    ids = [row.id for row in rows]
    last = await retention.last_passes(unit, ids)
    policies: dict[UUID, list[StoredPolicy]] = {}
    for stored in await retention.of_vaults(unit, ids):
        policies.setdefault(stored.vault_id, []).append(stored)
    known = policies.keys() | last.keys()
    return {vault: VaultRetention(tuple(policies.get(vault, ())), last.get(vault)) for vault in known}
