import gc

if __name__ == "__main__":
    gc.disable()  # what a start makes is no garbage; process.main has it on again when the role serves

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.resources import files

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from oort.license.v1.leases_pb2_grpc import add_LeaseServiceServicer_to_server, add_SerialServiceServicer_to_server

from services.common.errors import StartError
from services.common.listeners import Served
from services.common.process import Parts, Role, Runtime, main
from services.common.settings import BAD_SETTINGS
from services.license.leases import Leasing
from services.license.rpc.leases import LeasesRpc
from services.license.rpc.serials import SerialsRpc
from services.license.settings import LicenseSettings


@asynccontextmanager
async def wire(runtime: Runtime[LicenseSettings]) -> AsyncIterator[Parts]:
    """Leases for whoever proves its installation; serials for operators."""
    leasing = Leasing(
        db=runtime.db,
        clock=runtime.clock,
        key=_signing_key(runtime.settings),
        life=timedelta(seconds=runtime.settings.lease_seconds),
        grace=timedelta(seconds=runtime.settings.grace_seconds),
    )
    leases, serials = LeasesRpc(leasing, runtime.clock), SerialsRpc(runtime.db, runtime.clock)
    yield Parts(
        public=[Served(add_LeaseServiceServicer_to_server, leases, "oort.license.v1.LeaseService")],
        internal=[Served(add_SerialServiceServicer_to_server, serials, "oort.license.v1.SerialService")],
    )


def _signing_key(settings: LicenseSettings) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(settings.signing_key.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise StartError(f"{settings.signing_key} is no Ed25519 private key in PEM (OORT_SIGNING_KEY)", BAD_SETTINGS)
    return key


ROLE = Role("license", LicenseSettings, files("services.license") / "migrations", wire)

if __name__ == "__main__":
    sys.exit(main(ROLE))
