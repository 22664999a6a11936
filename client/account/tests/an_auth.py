"""An auth role in memory, which keeps what the real one keeps and nothing else: no password, no K, no path."""

# ruff: noqa: ARG002 - methods of a service take request and context

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from uuid import UUID

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.timestamp_pb2 import Timestamp
from oort.auth.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    devices_pb2,
    devices_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
)

from client.account import login as logins
from client.account.home import Home
from client.account.passwords import new_account
from client.tests.servers import refuse, serving
from client.tests.tls import Authority
from domain.ids import uuid7

PASSWORD = "a-quiet-harbour-at-dusk"


def a_user_id() -> UUID:
    return uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10))


@cache
def _alice() -> tuple[UUID, bytes, bytes]:
    """Id, credentials and account key; the same for a whole process, which has the password stretched once then."""
    user = a_user_id()
    credentials, account_key = new_account(user, PASSWORD)
    return user, credentials.SerializeToString(), account_key


@dataclass
class Auth(
    accounts_pb2_grpc.AccountServiceServicer,
    devices_pb2_grpc.DeviceServiceServicer,
    profiles_pb2_grpc.ProfileServiceServicer,
    jobs_pb2_grpc.JobServiceServicer,
):
    """One user, `alice`."""

    user: UUID = field(init=False)
    credentials: accounts_pb2.Credentials = field(init=False)
    account_key: bytes = field(init=False)
    recovery: accounts_pb2.SetRecoveryRequest = field(default_factory=accounts_pb2.SetRecoveryRequest)
    devices: dict[str, bytes] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    append_only: set[str] = field(default_factory=set)
    sessions: dict[str, str] = field(default_factory=dict)
    vaults: dict[str, profiles_pb2.Vault] = field(default_factory=dict)
    items: dict[str, profiles_pb2.Item] = field(default_factory=dict)
    jobs: dict[str, jobs_pb2.Job] = field(default_factory=dict)
    lines: dict[str, list[jobs_pb2.LogLine]] = field(default_factory=dict)
    first_key: bytes = b""  # set by another device just before ours would be
    is_down: bool = False
    calls: list[str] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.user, credentials, self.account_key = _alice()
        self.credentials = accounts_pb2.Credentials.FromString(credentials)

    def add_to(self, server: grpc.Server) -> None:
        accounts_pb2_grpc.add_AccountServiceServicer_to_server(self, server)
        devices_pb2_grpc.add_DeviceServiceServicer_to_server(self, server)
        profiles_pb2_grpc.add_ProfileServiceServicer_to_server(self, server)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(self, server)

    def _enter(self, call: str, context: grpc.ServicerContext, *, signed_in: bool = True) -> str:
        self.calls.append(call)
        if self.is_down:
            context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        metadata = {str(key): str(value) for key, value in context.invocation_metadata()}
        token = metadata.get("authorization", "").removeprefix("Bearer ")
        if signed_in and token not in self.sessions:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "NOT_SIGNED_IN")
        return self.sessions.get(token, "")

    def _session(self, device: str) -> accounts_pb2.LoginResponse:
        token = secrets.token_hex(16)
        self.sessions[token] = device
        return accounts_pb2.LoginResponse(session_token=token, user_id=str(self.user), device_id=device)

    # Accounts

    def GetLoginParameters(
        self, request: accounts_pb2.GetLoginParametersRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.GetLoginParametersResponse:
        self._enter("GetLoginParameters", context, signed_in=False)
        return accounts_pb2.GetLoginParametersResponse(kdf=self.credentials.kdf)

    def Login(self, request: accounts_pb2.LoginRequest, context: grpc.ServicerContext) -> accounts_pb2.LoginResponse:
        self._enter("Login", context, signed_in=False)
        self.seen.append(request.SerializeToString())
        if request.username != "alice" or request.login_key != self.credentials.login_key:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "WRONG_CREDENTIALS")
        if request.device.id in self.revoked:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "DEVICE_UNKNOWN")
        self.devices[request.device.id] = request.device.public_key
        if request.device.append_only:
            self.append_only.add(request.device.id)
        answer = self._session(request.device.id)
        answer.sealed_key = self.credentials.sealed_key
        return answer

    def BeginDeviceLogin(
        self, request: accounts_pb2.BeginDeviceLoginRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.BeginDeviceLoginResponse:
        self._enter("BeginDeviceLogin", context, signed_in=False)
        return accounts_pb2.BeginDeviceLoginResponse(challenge=b"challenge")

    def DeviceLogin(
        self, request: accounts_pb2.DeviceLoginRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.LoginResponse:
        self._enter("DeviceLogin", context, signed_in=False)
        if request.device_id in self.revoked:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "DEVICE_UNKNOWN")
        key = Ed25519PublicKey.from_public_bytes(self.devices[request.device_id])
        key.verify(request.signature, b"oort device login v1\0" + request.challenge)
        return self._session(request.device_id)

    def Logout(self, request: accounts_pb2.LogoutRequest, context: grpc.ServicerContext) -> accounts_pb2.LogoutResponse:
        device = self._enter("Logout", context)
        if request.remove_device:
            self.revoked.add(device)
        self.sessions = {token: other for token, other in self.sessions.items() if other != device}
        return accounts_pb2.LogoutResponse()

    def GetAccount(
        self, request: accounts_pb2.GetAccountRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.GetAccountResponse:
        self._enter("GetAccount", context)
        return accounts_pb2.GetAccountResponse(
            tenant="local", username="alice", has_recovery=bool(self.recovery.sealed_key)
        )

    def ChangePassword(
        self, request: accounts_pb2.ChangePasswordRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.ChangePasswordResponse:
        self._enter("ChangePassword", context)
        if request.login_key != self.credentials.login_key:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "WRONG_CREDENTIALS")
        self.credentials = request.credentials
        return accounts_pb2.ChangePasswordResponse()

    def SetRecovery(
        self, request: accounts_pb2.SetRecoveryRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.SetRecoveryResponse:
        self._enter("SetRecovery", context)
        if request.login_key != self.credentials.login_key:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "WRONG_CREDENTIALS")
        self.recovery = request
        return accounts_pb2.SetRecoveryResponse()

    def GetRecoverySeal(
        self, request: accounts_pb2.GetRecoverySealRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.GetRecoverySealResponse:
        self._enter("GetRecoverySeal", context, signed_in=False)
        if request.recovery_key != self.recovery.recovery_key:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "WRONG_CREDENTIALS")
        return accounts_pb2.GetRecoverySealResponse(user_id=str(self.user), sealed_key=self.recovery.sealed_key)

    def ResetPassword(
        self, request: accounts_pb2.ResetPasswordRequest, context: grpc.ServicerContext
    ) -> accounts_pb2.ResetPasswordResponse:
        self._enter("ResetPassword", context, signed_in=False)
        if request.recovery_key != self.recovery.recovery_key:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "WRONG_CREDENTIALS")
        self.credentials = request.credentials
        return accounts_pb2.ResetPasswordResponse()

    # Profiles

    def ListVaults(
        self, request: profiles_pb2.ListVaultsRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.ListVaultsResponse:
        self._enter("ListVaults", context)
        vaults = [self._with_last_pass(vault) for vault in self.vaults.values()]
        start = int(request.page_token or 0)
        more = str(start + 1) if start + 1 < len(vaults) else ""
        now = Timestamp()
        now.GetCurrentTime()
        return profiles_pb2.ListVaultsResponse(vaults=vaults[start : start + 1], next_page_token=more, now=now)

    def _with_last_pass(self, stored: profiles_pb2.Vault) -> profiles_pb2.Vault:
        vault = profiles_pb2.Vault()
        vault.CopyFrom(stored)
        passes = [
            job.ended
            for job in self.jobs.values()
            if (job.kind, job.vault_id, job.item_id) == (4003, vault.id, "")
            and job.prune
            and job.status in (5000, 7001)
        ]
        if passes:
            vault.last_retention.CopyFrom(max(passes, key=Timestamp.ToNanoseconds))
        return vault

    def SetRetention(
        self, request: profiles_pb2.SetRetentionRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.SetRetentionResponse:
        self._enter("SetRetention", context)
        vault = self.vaults[request.vault_id]
        if not request.item_id:
            vault.ClearField("retention")
            if request.HasField("policy"):
                vault.retention.CopyFrom(request.policy)
            return profiles_pb2.SetRetentionResponse()
        others = [one for one in vault.item_retention if one.item_id != request.item_id]
        vault.ClearField("item_retention")
        vault.item_retention.extend(others)
        if request.HasField("policy"):
            vault.item_retention.add(item_id=request.item_id, policy=request.policy)
        return profiles_pb2.SetRetentionResponse()

    def AddVault(
        self, request: profiles_pb2.AddVaultRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.AddVaultResponse:
        self._enter("AddVault", context)
        self.seen.append(request.SerializeToString())
        self.vaults[request.vault.id] = request.vault
        return profiles_pb2.AddVaultResponse(vault=request.vault)

    def RequestVault(
        self, request: profiles_pb2.RequestVaultRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.RequestVaultResponse:
        self._enter("RequestVault", context)
        if request.template != "default":
            refuse(context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_TEMPLATE", "There is no storage template of that name.")
        vault = profiles_pb2.Vault(
            id=request.id,
            name=request.name,
            kind=profiles_pb2.VaultKind.VAULT_KIND_BUCKET,
            bucket_id=str(a_user_id()),
            cluster="local",
        )
        self.vaults[request.id] = vault
        return profiles_pb2.RequestVaultResponse(vault=vault)

    def RemoveVault(
        self, request: profiles_pb2.RemoveVaultRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.RemoveVaultResponse:
        self._enter("RemoveVault", context)
        del self.vaults[request.vault_id]
        return profiles_pb2.RemoveVaultResponse()

    def ListTemplates(
        self, request: profiles_pb2.ListTemplatesRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.ListTemplatesResponse:
        self._enter("ListTemplates", context)
        return profiles_pb2.ListTemplatesResponse(templates=[profiles_pb2.Template(name="default", copies=2)])

    def IssueVaultToken(
        self, request: profiles_pb2.IssueVaultTokenRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.IssueVaultTokenResponse:
        self._enter("IssueVaultToken", context)
        return profiles_pb2.IssueVaultTokenResponse(token="token", endpoints=["127.0.0.1:1"], scopes=request.scopes)

    def IssueRestAccess(
        self, request: profiles_pb2.IssueRestAccessRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.IssueRestAccessResponse:
        self._enter("IssueRestAccess", context)
        password = "appends" if request.append_only else "all"
        return profiles_pb2.IssueRestAccessResponse(username="u", password=password, endpoints=["n1:8071", "n2:8071"])

    def RevokeRestAccess(
        self, request: profiles_pb2.RevokeRestAccessRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.RevokeRestAccessResponse:
        del request
        self._enter("RevokeRestAccess", context)
        return profiles_pb2.RevokeRestAccessResponse(revoked=2)

    def DeleteItem(
        self, request: profiles_pb2.DeleteItemRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.DeleteItemResponse:
        self._enter("DeleteItem", context)
        del self.items[request.id]
        return profiles_pb2.DeleteItemResponse()

    def SetVaultKey(
        self, request: profiles_pb2.SetVaultKeyRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.SetVaultKeyResponse:
        self._enter("SetVaultKey", context)
        vault = self.vaults[request.vault_id]
        if self.first_key and not vault.sealed_key:
            vault.sealed_key = self.first_key
        if vault.sealed_key not in (request.replaces, request.sealed_key):
            refuse(context, grpc.StatusCode.ALREADY_EXISTS, "VAULT_HAS_KEY")
        vault.sealed_key = request.sealed_key
        return profiles_pb2.SetVaultKeyResponse()

    def SetVaultPlace(
        self, request: profiles_pb2.SetVaultPlaceRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.SetVaultPlaceResponse:
        self._enter("SetVaultPlace", context)
        self.seen.append(request.SerializeToString())
        vault = self.vaults[request.vault_id]
        if vault.sealed_place != request.replaces:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "STALE_VERSION")
        vault.sealed_place = request.sealed_place
        return profiles_pb2.SetVaultPlaceResponse()

    def ListItems(
        self, request: profiles_pb2.ListItemsRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.ListItemsResponse:
        device = self._enter("ListItems", context)
        items = [item for item in self.items.values() if request.all_devices or item.device_id == device]
        return profiles_pb2.ListItemsResponse(items=items)

    def PutItem(
        self, request: profiles_pb2.PutItemRequest, context: grpc.ServicerContext
    ) -> profiles_pb2.PutItemResponse:
        device = self._enter("PutItem", context)
        self.seen.append(request.SerializeToString())
        item = profiles_pb2.Item()
        item.CopyFrom(request.item)
        item.device_id, item.version = device, 1
        self.items[item.id] = item
        return profiles_pb2.PutItemResponse(item=item)

    # Devices

    def ListDevices(
        self, request: devices_pb2.ListDevicesRequest, context: grpc.ServicerContext
    ) -> devices_pb2.ListDevicesResponse:
        own = self._enter("ListDevices", context)
        in_force = [device for device in self.devices if device not in self.revoked]
        return devices_pb2.ListDevicesResponse(
            devices=[
                devices_pb2.RegisteredDevice(
                    id=one, name=self.names.get(one, "laptop"), current=one == own, append_only=one in self.append_only
                )
                for one in in_force
            ]
        )

    def SetAppendOnly(
        self, request: devices_pb2.SetAppendOnlyRequest, context: grpc.ServicerContext
    ) -> devices_pb2.SetAppendOnlyResponse:
        own = self._enter("SetAppendOnly", context)
        if own in self.append_only and (request.id != own or not request.append_only):
            refuse(context, grpc.StatusCode.PERMISSION_DENIED, "APPEND_ONLY")
        (self.append_only.add if request.append_only else self.append_only.discard)(request.id)
        return devices_pb2.SetAppendOnlyResponse()

    def RenameDevice(
        self, request: devices_pb2.RenameDeviceRequest, context: grpc.ServicerContext
    ) -> devices_pb2.RenameDeviceResponse:
        self._enter("RenameDevice", context)
        self.names[request.id] = request.name
        return devices_pb2.RenameDeviceResponse()

    def RevokeDevice(
        self, request: devices_pb2.RevokeDeviceRequest, context: grpc.ServicerContext
    ) -> devices_pb2.RevokeDeviceResponse:
        self._enter("RevokeDevice", context)
        self.revoked.add(request.id)
        return devices_pb2.RevokeDeviceResponse()

    # Jobs

    def StartJob(self, request: jobs_pb2.StartJobRequest, context: grpc.ServicerContext) -> jobs_pb2.StartJobResponse:
        self._enter("StartJob", context)
        self.jobs.setdefault(request.job.id, request.job)
        return jobs_pb2.StartJobResponse()

    def ReportProgress(
        self, request: jobs_pb2.ReportProgressRequest, context: grpc.ServicerContext
    ) -> jobs_pb2.ReportProgressResponse:
        self._enter("ReportProgress", context)
        self.jobs[request.job_id].counts.CopyFrom(request.counts)
        return jobs_pb2.ReportProgressResponse()

    def AppendLog(
        self, request: jobs_pb2.AppendLogRequest, context: grpc.ServicerContext
    ) -> jobs_pb2.AppendLogResponse:
        self._enter("AppendLog", context)
        self.seen.append(request.SerializeToString())
        lines = self.lines.setdefault(request.job_id, [])
        if request.first > len(lines):
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", "there is a gap")
        lines.extend(list(request.lines)[len(lines) - request.first :])
        return jobs_pb2.AppendLogResponse()

    def FinishJob(
        self, request: jobs_pb2.FinishJobRequest, context: grpc.ServicerContext
    ) -> jobs_pb2.FinishJobResponse:
        self._enter("FinishJob", context)
        job = self.jobs[request.job_id]
        job.status, job.snapshot = request.status, request.snapshot
        job.prune = job.prune and not request.freed_nothing
        job.ended.CopyFrom(request.ended)
        job.counts.CopyFrom(request.counts)
        job.vaults.extend(request.vaults)
        return jobs_pb2.FinishJobResponse()

    def ListJobs(self, request: jobs_pb2.ListJobsRequest, context: grpc.ServicerContext) -> jobs_pb2.ListJobsResponse:
        self._enter("ListJobs", context)
        return jobs_pb2.ListJobsResponse(jobs=list(self.jobs.values())[::-1])

    def ListLog(self, request: jobs_pb2.ListLogRequest, context: grpc.ServicerContext) -> jobs_pb2.ListLogResponse:
        self._enter("ListLog", context)
        return jobs_pb2.ListLogResponse(lines=self.lines.get(request.job_id, []))


@dataclass
class Office:
    """A running auth role, and homes that log in to it."""

    auth: Auth
    server: logins.Server
    folder: Path

    def home(self, name: str = "home") -> Home:
        return Home(self.folder / name)

    def logged_in(self, name: str = "home", password: str = PASSWORD) -> Home:
        home = self.home(name)
        logins.login(home, self.server, "alice", password)
        return home


@contextmanager
def an_office(authority: Authority, folder: Path) -> Iterator[Office]:
    auth = Auth()
    ca = folder / "ca.pem"
    ca.write_bytes(authority.ca)
    with serving(authority, auth.add_to) as address:
        yield Office(auth, logins.Server(address, ca), folder)
