"""What an administrator does for the protection of a vault: waste basket, object lock, brake on mass removal.

Kept true: a restore from the basket goes on step by step in one session of the node, so one that was broken off is gone
on with by the same call; what could not come back is named. One that gives up ends its session, for which retentions
wait.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from oort.auth.v1 import buckets_pb2, buckets_pb2_grpc
from oort.storage.v1 import protection_pb2

from client.account.connection import Refused, translate
from client.errors import OortError
from deploy.administrator import Administrator, new_id, time_text

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

# For a retention that runs: that of a device that has gone ends within a minute or so.
_PATIENCE_SECONDS = 600
_PAUSE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Removed:
    """An object in the waste basket. `device` is its name, or its id where it has none any more."""

    name: str
    size: int
    removed: str
    session: str
    device: str
    purpose: str
    kept_until: str

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Protection:
    """Times are texts, and empty where there is none."""

    lock_days: int
    braked: str
    reaped: str


@dataclass(frozen=True, slots=True)
class Basket:
    """What lies in the waste basket of a bucket, the oldest removal of each kind first."""

    vault: str
    entries: list[Removed]
    protection: Protection


@dataclass(frozen=True, slots=True)
class Sum:
    kind: str
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore is to bring back, leaves in the basket, and comes too late for."""

    from_seq: int
    comes_back: list[Sum]
    stays: list[Sum]
    leaving: list[Sum]
    protection: Protection


@dataclass(slots=True)
class Restored:
    """What came back, by kind; the rest are names.

    `damaged` has no whole copy, `held` are snapshots that stay as an index file is damaged, `gone` what was
    named and is for good.
    """

    objects: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    keys: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


class BucketAdministrator(Administrator):
    """A signed-in administrator of buckets; every call raises OortError for a person."""

    @property
    def _buckets(self) -> buckets_pb2_grpc.BucketAdminServiceStub:
        return buckets_pb2_grpc.BucketAdminServiceStub(self.connection.channel)

    def basket(self, bucket: str) -> Basket:
        """Raises UsageError for what is no id, NotFound."""
        request = protection_pb2.ListBasketRequest(bucket_id=bucket, page_size=1000)
        vault, entries, protection = "", [], Protection(0, "", "")
        more = True
        while more:
            page = self.connection.call(self._buckets.ListBasket, request)
            vault, protection = page.vault_name, _protection(page.told.protection)
            entries += [_removed(page, entry) for entry in page.told.entries]
            request.page_token = page.told.next_page_token
            more = bool(request.page_token)
        return Basket(vault, entries, protection)

    def plan_restore(self, bucket: str, since: datetime | None, names: Sequence[str]) -> Plan:
        """Raises as `basket`, and UsageError for a name that is not there."""
        request = protection_pb2.PlanRestoreRequest(bucket_id=bucket, names=names)
        if since is not None:
            request.since.FromDatetime(since.astimezone(UTC))
        plan = self.connection.call(self._buckets.PlanRestore, request)
        sums = (_sums(plan.comes_back), _sums(plan.stays), _sums(plan.leaving))
        return Plan(plan.from_seq, *sums, _protection(plan.protection))

    def restore(
        self,
        bucket: str,
        plan: Plan,
        names: Sequence[str],
        told: Callable[[Restored], None],
        *,
        waits: Callable[[str], None],
        pause: Callable[[float], None] = time.sleep,
    ) -> Restored:
        """Carry out a plan; `told` hears after each step how far it is, `waits` once for what it has to wait.

        Raises ServerError when a retention still runs after ten minutes.
        """
        request = protection_pb2.RestoreRequest(
            session_id=str(new_id()), bucket_id=bucket, from_seq=plan.from_seq, names=names
        )
        try:
            return self._restore(request, told, self._first_step(request, waits, pause))
        except BaseException:
            # One that cannot be ended ends by its silence.
            with contextlib.suppress(OortError):
                self.end_session(request.session_id)
            raise

    def _first_step(
        self, request: protection_pb2.RestoreRequest, waits: Callable[[str], None], pause: Callable[[float], None]
    ) -> protection_pb2.RestoreResponse:
        """The step that opens the session: a retention may run before it, and none begins after it."""
        waited = 0
        while True:
            try:
                return self.connection.ask(self._buckets.Restore, request)
            except Refused as refused:
                if refused.refusal.reason != "BUCKET_REFUSED" or waited >= _PATIENCE_SECONDS:
                    raise translate(refused.refusal, self.connection.server) from None
                if not waited:
                    waits(refused.refusal.message)
            pause(_PAUSE_SECONDS)
            waited += _PAUSE_SECONDS

    def _restore(
        self,
        request: protection_pb2.RestoreRequest,
        told: Callable[[Restored], None],
        step: protection_pb2.RestoreResponse,
    ) -> Restored:
        result = Restored()
        while True:
            for entry in step.restored:
                kind = entry.name.partition("/")[0]
                result.objects[kind] = result.objects.get(kind, 0) + 1
                result.bytes += entry.size
                result.keys += [entry.name] if kind == "keys" else []
            result.damaged += [name for name in step.damaged if name not in result.damaged]
            result.held += step.held
            result.gone += step.gone
            told(result)
            if step.done:
                return result
            step = self.connection.call(self._buckets.Restore, request)

    def lock(self, bucket: str, days: int, *, shorten: bool) -> int:
        """Answers the days before. Raises UsageError for a shorter lock without `shorten`."""
        request = protection_pb2.SetLockRequest(bucket_id=bucket, days=days, shorten=shorten)
        return self.connection.call(self._buckets.SetLock, request).days_before

    def release(self, bucket: str) -> bool:
        """Whether the brake held it."""
        request = protection_pb2.ReleaseRequest(bucket_id=bucket)
        return self.connection.call(self._buckets.Release, request).was_braked


def _removed(page: buckets_pb2.ListBasketResponse, entry: protection_pb2.BasketEntry) -> Removed:
    device = page.device_names.get(entry.device_id, entry.device_id)
    times = (time_text(entry.removed), time_text(entry.kept_until))
    return Removed(entry.name, entry.size, times[0], entry.session_id, device, entry.purpose, times[1])


def _protection(found: protection_pb2.Protection) -> Protection:
    return Protection(found.lock_days, _optional(found, "braked"), _optional(found, "reaped"))


def _optional(found: protection_pb2.Protection, name: str) -> str:
    stamp: Timestamp = getattr(found, name)
    return time_text(stamp) if stamp.seconds else ""


def _sums(sums: Sequence[protection_pb2.BasketSum]) -> list[Sum]:
    return [Sum(one.kind, one.objects, one.bytes) for one in sums]


def groups(entries: Sequence[Removed]) -> Iterator[list[Removed]]:
    """Snapshots and keys one by one; the rest together that one session has removed, as a person looks at it."""
    found: dict[tuple[str, str], list[Removed]] = {}
    for entry in entries:
        own = entry.name if entry.kind in ("snapshots", "keys") else entry.session or entry.removed
        found.setdefault((entry.kind, own), []).append(entry)
    yield from found.values()
