"""How the role's parts fit together: built once, for the process and for tests alike."""

import secrets
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from oort.auth.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    admin_pb2,
    admin_pb2_grpc,
    buckets_pb2,
    buckets_pb2_grpc,
    devices_pb2,
    devices_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    owners_pb2,
    owners_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
    rest_pb2,
    rest_pb2_grpc,
)
from redis.asyncio import Redis

from domain.ids import uuid7
from services.auth.accounts import Accounts
from services.auth.attempts import Attempts
from services.auth.buckets import Buckets
from services.auth.credentials import Prover
from services.auth.devices import Devices
from services.auth.directory import Directory
from services.auth.gate import Gate, SessionGate
from services.auth.items import Items
from services.auth.jobs import Jobs
from services.auth.logins import Logins
from services.auth.rest_access import RestAccess
from services.auth.retention import Retention
from services.auth.rpc.accounts import AccountsRpc
from services.auth.rpc.admin import AdminRpc, SetupRpc
from services.auth.rpc.buckets import BucketsRpc
from services.auth.rpc.devices import DevicesRpc
from services.auth.rpc.jobs import JobsRpc
from services.auth.rpc.owners import OwnersRpc
from services.auth.rpc.profiles import ProfilesRpc
from services.auth.rpc.rest import RestAccessRpc
from services.auth.sessions import Sessions
from services.auth.storage import Storage
from services.auth.templates import Templates
from services.auth.tokens import TokenSigner
from services.auth.users import Users
from services.auth.vault_sessions import VaultSessions
from services.auth.vaults import Vaults
from services.common.clock import Clock
from services.common.database import Database
from services.common.listeners import Served


@dataclass(frozen=True, slots=True)
class Foundation:
    """What the role stands on."""

    db: Database
    redis: Redis
    clock: Clock
    pepper: bytes
    signer: TokenSigner
    storage: Storage


@dataclass(frozen=True, slots=True)
class Auth:
    """The role's services, and the work it does besides."""

    public: list[Served]
    internal: list[Served]
    attempts: Attempts
    clock: Clock

    async def forget_attempts(self) -> None:
        """Once an hour, drop the counts of failed attempts that no longer matter."""
        while True:
            await self.attempts.forget_old()
            await self.clock.sleep(3600)


def build(base: Foundation, gate: Gate | None = None) -> Auth:
    """Every service of the role behind `gate`, by default the one that asks for sessions."""
    db, clock = base.db, base.clock
    prover, directory, sessions = Prover(base.pepper), Directory(db), Sessions(base.redis, clock)
    attempts = Attempts(db, clock, prover)
    logins = Logins(db, clock, directory, sessions, prover, attempts)
    accounts = Accounts(db, clock, directory, sessions, prover, attempts, logins)
    users = Users(db, clock, directory, prover)
    templates, devices = Templates(db, users), Devices(db, clock)
    items, vaults = Items(db, clock), Vaults(db, clock, base.storage, base.signer)
    rest = RestAccess(db, clock, base.storage, base.signer, base.pepper)
    gate = gate or SessionGate(db, sessions, clock)
    make_id = partial(_new_id, clock)
    public = [
        _served(
            accounts_pb2_grpc.add_AccountServiceServicer_to_server,
            accounts_pb2,
            "AccountService",
            AccountsRpc(gate, logins, accounts, devices, sessions),
        ),
        _served(
            devices_pb2_grpc.add_DeviceServiceServicer_to_server,
            devices_pb2,
            "DeviceService",
            DevicesRpc(gate, devices),
        ),
        _served(
            profiles_pb2_grpc.add_ProfileServiceServicer_to_server,
            profiles_pb2,
            "ProfileService",
            ProfilesRpc(gate, items, vaults, retention=Retention(db), templates=templates, rest=rest),
        ),
        _served(jobs_pb2_grpc.add_JobServiceServicer_to_server, jobs_pb2, "JobService", JobsRpc(gate, Jobs(db, clock))),
        _served(
            admin_pb2_grpc.add_AdminServiceServicer_to_server,
            admin_pb2,
            "AdminService",
            AdminRpc(gate, users, templates, VaultSessions(db, base.storage), make_id),
        ),
        _served(
            buckets_pb2_grpc.add_BucketAdminServiceServicer_to_server,
            buckets_pb2,
            "BucketAdminService",
            BucketsRpc(gate, Buckets(db, base.storage, users)),
        ),
    ]
    setup = SetupRpc(gate, users, templates, make_id)
    internal = [
        _served(admin_pb2_grpc.add_SetupServiceServicer_to_server, admin_pb2, "SetupService", setup),
        _served(
            rest_pb2_grpc.add_RestAccessServiceServicer_to_server,
            rest_pb2,
            "RestAccessService",
            RestAccessRpc(gate, rest),
        ),
        _served(
            owners_pb2_grpc.add_OwnerServiceServicer_to_server, owners_pb2, "OwnerService", OwnersRpc(gate, directory)
        ),
    ]
    return Auth(public, internal, attempts, clock)


def _served(add: Any, messages: Any, name: str, servicer: object) -> Served:
    return Served(add, servicer, messages.DESCRIPTOR.services_by_name[name].full_name)


def _new_id(clock: Clock) -> UUID:
    return uuid7(int(clock.now().timestamp() * 1000), secrets.token_bytes(10))
