"""Open sessions on the vaults of a tenant, asked of the storage clusters and told with the names that auth knows.

Kept true: an administrator sees and ends those of its own tenant alone; the clusters are asked for that tenant's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from oort.storage.v1 import sessions_pb2

from services.auth.errors import StorageUnavailable
from services.auth.gate import Caller
from services.auth.storage import Storage
from services.auth.store import clusters, devices, users, vaults
from services.common.database import Database, Unit
from services.common.errors import NotFound
from services.common.paging import Page, token_of


@dataclass(frozen=True, slots=True)
class VaultSession:
    """A session as its cluster tells it; a name is empty where what it names is gone."""

    cluster: str
    told: sessions_pb2.OpenSession
    vault: str
    username: str
    device: str


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions of one cluster; `silent` names it if it does not answer, and the next page is another's."""

    sessions: list[VaultSession]
    token: str
    silent: str = ""


@dataclass(frozen=True, slots=True)
class VaultSessions:
    db: Database
    storage: Storage

    async def page(self, caller: Caller, vault: UUID | None, page: Page) -> SessionPage:
        """Sessions of the caller's tenant, on one vault or all, cluster after cluster; and the next page's token.

        A page of none may have another after it.
        """
        name, inner = page.after or ("", "")
        async with self.db.unit(caller.tenant) as unit:
            names = [one for one in await vaults.clusters(unit) if one >= name]
            cluster = await clusters.get(unit, names[0]) if names else None
        if cluster is None:
            return SessionPage([], "")
        request = sessions_pb2.ListSessionsRequest(
            tenant_id=str(caller.tenant),
            bucket_id=str(vault) if vault else "",
            page_size=page.size,
            page_token=inner if cluster.name == name else "",
        )
        try:
            answer = await self.storage.sessions(cluster, request)
        except StorageUnavailable:
            return SessionPage([], _next(names, ""), silent=cluster.name)
        async with self.db.unit(caller.tenant) as unit:
            found = [await _named(unit, cluster.name, told) for told in answer.sessions]
        return SessionPage(found, _next(names, answer.next_page_token))

    async def end(self, caller: Caller, session: UUID) -> None:
        """End a session of the caller's tenant. Raises NotFound, StorageUnavailable if a silent cluster may have it."""
        async with self.db.unit(caller.tenant) as unit:
            known = [await clusters.get(unit, name) for name in await vaults.clusters(unit)]
        silent: StorageUnavailable | None = None
        for cluster in known:
            if cluster is None:
                continue
            try:
                if await self.storage.end_session(cluster, session, caller.tenant):
                    return
            except StorageUnavailable as error:
                silent = silent or error
        raise silent or NotFound(what=f"session {session}")


def _next(names: Sequence[str], inner: str) -> str:
    if inner:
        return token_of((names[0], inner))
    return token_of((names[1], "")) if len(names) > 1 else ""


async def _named(unit: Unit, cluster: str, told: sessions_pb2.OpenSession) -> VaultSession:
    vault = await vaults.get(unit, UUID(told.bucket_id))
    user = await users.get(unit, UUID(told.user_id))
    device = await devices.get(unit, UUID(told.device_id))
    return VaultSession(
        cluster, told, vault.name if vault else "", user.username if user else "", device.name if device else ""
    )
