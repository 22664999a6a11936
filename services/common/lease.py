"""The lease keeper: no instance runs without a lease, and none outlives its lease and grace.

Kept true: time, as the keeper counts it, never goes back: it is the highest of the wall clock, of what
`oort-license.db` has seen, and of that plus the time the process has run. Only a fresh answer of the licence server,
signed and bound to the nonce just sent, sets it anew. So a clock set back lengthens nothing, and one once wrong by
years heals.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from oort.license.v1 import leases_pb2, leases_pb2_grpc

from services.common.clock import Clock
from services.common.errors import StartError, Unavailable
from services.common.fingerprint import fingerprint
from services.common.lease_ledger import LeaseLedger
from services.common.lease_request import BadKey, Purpose, Sign, installation_of, signer, statement
from services.common.lease_token import BadLease, Bond, Lease
from services.common.messages import timestamp_of
from services.common.rpc import CHANNEL_OPTIONS
from services.common.settings import BAD_SETTINGS, RoleSettings

# Exit codes of a role's process; services/common/process.py has the whole table.
NO_LEASE = 3
LEASE_OVER = 4

_NONCE_BYTES = 16
_CALL_SECONDS = 10.0
# The keeper looks at the clock at least this often, and writes down what it saw.
_TICK = timedelta(seconds=60)
# Pauses between attempts to renew: a sixtieth of a lease's life, within these bounds.
_SHORTEST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=1), timedelta(minutes=5)
# Answers that say that the server has a fault, not that the instance may not run.
_FAULTS = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class LeaseRefused(Exception):
    """The licence server answered, and the answer was no."""


class LicenseServer(Protocol):
    """Where leases come from."""

    async def acquire(self, request: leases_pb2.AcquireRequest) -> str:
        """The signed lease. Raises LeaseRefused; Unavailable when there was no answer."""


@dataclass(frozen=True, slots=True)
class RemoteLicenseServer:
    """The licence server's public listener; `roots` is the PEM of the CA of its TLS certificate."""

    target: str
    roots: bytes

    async def acquire(self, request: leases_pb2.AcquireRequest) -> str:
        credentials = grpc.ssl_channel_credentials(self.roots)
        async with grpc.aio.secure_channel(self.target, credentials, CHANNEL_OPTIONS) as channel:
            try:
                answer = await leases_pb2_grpc.LeaseServiceStub(channel).Acquire(request, timeout=_CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() in _FAULTS:
                    raise Unavailable(what=f"The licence server at {self.target}") from error
                raise LeaseRefused(error.details()) from error
        return answer.lease


@dataclass(frozen=True, slots=True)
class Identity:
    """What an instance shows of itself: the bond of its lease, its certificates (PEM, own one first) and its key."""

    bond: Bond
    chain: bytes
    sign: Sign

    def request(self, asked: datetime, nonce: bytes, purpose: Purpose = Purpose.ACQUIRE) -> leases_pb2.AcquireRequest:
        """A signed request for its lease; `nonce` is 16 random bytes."""
        body = leases_pb2.LeaseRequest(
            serial=self.bond.serial,
            role=self.bond.role,
            instance=self.bond.instance,
            fingerprint=self.bond.fingerprint,
            external_address=self.bond.address,
            asked=timestamp_of(asked),
            nonce=nonce,
        ).SerializeToString(deterministic=True)
        return leases_pb2.AcquireRequest(
            request=body, certificate_chain=self.chain, signature=self.sign(statement(purpose, body))
        )


class LeaseKeeper:
    """Takes, keeps and renews the lease of one instance."""

    def __init__(
        self,
        identity: Identity,
        ledger: LeaseLedger,
        server: LicenseServer,
        *,
        license_key: Ed25519PublicKey,
        clock: Clock,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._identity = identity
        self._ledger = ledger
        self._server = server
        self._license_key = license_key
        self._clock = clock
        self._random_bytes = random_bytes
        self._log = structlog.get_logger("lease")
        self._seen = max(clock.now(), ledger.highest() or clock.now())
        self._seen_monotonic = clock.monotonic()
        self._lease: Lease | None = None
        self._refused = False

    def close(self) -> None:
        """Close the file. The lease stays: a restart goes on with it."""
        self._ledger.close()

    def now(self) -> datetime:
        """The time by which leases are judged; it never falls."""
        elapsed = timedelta(seconds=self._clock.monotonic() - self._seen_monotonic)
        self._seen = max(self._clock.now(), self._seen + elapsed)
        self._seen_monotonic = self._clock.monotonic()
        return self._seen

    async def take(self) -> Lease:
        """A lease to start with: the one at hand while it is young, else a new one, else the one at hand in its grace.

        Raises StartError when the licence server refuses; Unavailable when it is out of reach and nothing is at hand.
        """
        now = self.now()
        self._ledger.see(now)
        self._lease = at_hand = self._at_hand()
        if at_hand and now < at_hand.renew_at:
            return at_hand
        try:
            return await self._acquire()
        except LeaseRefused as error:
            if at_hand and now < at_hand.expires:
                self._refused = True
                self._log.error("the licence server refuses to renew the lease", reason=str(error))
                return at_hand
            raise StartError(f"no lease: the licence server refuses: {error}", NO_LEASE) from error
        except Unavailable:
            if at_hand and now < at_hand.grace_ends:
                self._log.warning("the licence server is out of reach", until=at_hand.grace_ends.isoformat())
                return at_hand
            raise

    async def keep(self) -> None:
        """Renew the lease that `take` took, for ever. Raises StartError once lease and grace are over."""
        while True:
            lease, now = self._held(), self.now()
            self._ledger.see(now)
            # Grace is for a server out of reach; one that says no ends it with the lease itself.
            end = lease.expires if self._refused else lease.grace_ends
            if now >= end:
                raise StartError(f"the lease ended at {end.isoformat()} and could not be renewed", LEASE_OVER)
            if now < lease.renew_at:
                pause = min(_TICK, lease.renew_at - now)
            elif await self._renewed():
                continue
            else:
                pause = min(_TICK, max(_SHORTEST_PAUSE, min(_LONGEST_PAUSE, (lease.expires - lease.issued) / 60)))
            await self._clock.sleep(min(pause, end - now).total_seconds())

    async def _renewed(self) -> bool:
        try:
            await self._acquire()
        except LeaseRefused as error:
            self._refused = True
            self._log.error("the licence server refuses to renew the lease", reason=str(error))
        except Unavailable as error:
            self._refused = False
            self._log.warning("the lease was not renewed", reason=str(error), until=self._held().grace_ends.isoformat())
        else:
            return True
        return False

    async def _acquire(self) -> Lease:
        nonce = self._random_bytes(_NONCE_BYTES)
        token = await self._server.acquire(self._identity.request(self._clock.now(), nonce))
        try:
            lease = Lease.from_token(token, self._license_key)
        except BadLease as error:
            raise LeaseRefused(str(error)) from error
        if lease.nonce != nonce.hex() or lease.bond != self._identity.bond:
            raise LeaseRefused("the lease it gave is not for this request")
        # Fresh and signed: the one moment at which time, as counted here, may be corrected downwards.
        self._seen, self._seen_monotonic = max(self._clock.now(), lease.issued), self._clock.monotonic()
        self._ledger.add(token, self._seen)
        self._lease, self._refused = lease, False
        self._log.info("lease taken", expires=lease.expires.isoformat(), grace_ends=lease.grace_ends.isoformat())
        return lease

    def _at_hand(self) -> Lease | None:
        token = self._ledger.newest()
        if token is None:
            return None
        try:
            lease = Lease.from_token(token, self._license_key)
        except BadLease as error:
            self._log.warning("the lease at hand is not valid", reason=str(error))
            return None
        if lease.bond != self._identity.bond:
            self._log.warning(
                "the lease at hand is bound to another", differs=self._identity.bond.difference(lease.bond)
            )
            return None
        return lease

    def _held(self) -> Lease:
        if self._lease is None:
            raise StartError("no lease was taken", NO_LEASE)
        return self._lease


def open_keeper(role: str, settings: RoleSettings, clock: Clock) -> LeaseKeeper:
    """The keeper of the instance that `settings` describe. Raises StartError for files that do not serve."""
    ca = settings.ca_certificate.read_bytes()
    license_key = _license_key(settings)
    try:
        bond = Bond(
            serial=settings.serial,
            installation=installation_of(x509.load_pem_x509_certificate(ca)),
            role=role,
            instance=settings.instance,
            fingerprint=fingerprint(),
            address=settings.public_endpoint,
        )
        sign = signer(settings.tls_key.read_bytes())
    except (BadKey, ValueError) as error:
        raise StartError(
            f"bad certificate or key (OORT_CA_CERTIFICATE, OORT_TLS_KEY): {error}", BAD_SETTINGS
        ) from error
    identity = Identity(bond, settings.tls_certificate.read_bytes() + b"\n" + ca, sign)
    roots = settings.license_ca.read_bytes() if settings.license_ca else ca
    ledger = LeaseLedger(settings.license_file)
    try:
        server = RemoteLicenseServer(settings.license_server, roots)
        return LeaseKeeper(identity, ledger, server, license_key=license_key, clock=clock)
    except BaseException:
        ledger.close()
        raise


def _license_key(settings: RoleSettings) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(settings.license_key.read_bytes())
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise StartError(f"{settings.license_key} is no Ed25519 public key in PEM (OORT_LICENSE_KEY)", BAD_SETTINGS)
    return key
