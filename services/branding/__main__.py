import gc

if __name__ == "__main__":
    gc.disable()  # what a start makes is no garbage; process.main has it on again when the role serves

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from oort.branding.v1.brands_pb2_grpc import add_BrandServiceServicer_to_server

from services.branding.rpc.brands import BrandsRpc
from services.branding.settings import BrandingSettings
from services.common.listeners import Served
from services.common.process import Parts, Role, Runtime, main


@asynccontextmanager
async def wire(runtime: Runtime[BrandingSettings]) -> AsyncIterator[Parts]:
    """Brands, for whoever asks."""
    rpc = BrandsRpc(runtime.db)
    yield Parts(public=[Served(add_BrandServiceServicer_to_server, rpc, "oort.branding.v1.BrandService")])


ROLE = Role("branding", BrandingSettings, files("services.branding") / "migrations", wire)

if __name__ == "__main__":
    sys.exit(main(ROLE))
