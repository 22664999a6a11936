from dataclasses import asdict
from typing import Any

import grpc
from oort.branding.v1 import brands_pb2, brands_pb2_grpc

from services.branding.store import brands
from services.common.database import Database
from services.common.errors import NotFound
from services.common.messages import optional_uuid_of


class BrandsRpc(brands_pb2_grpc.BrandServiceServicer):
    """oort.branding.v1.BrandService. A brand is what anyone may see before signing in."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def GetBrand(
        self, request: brands_pb2.GetBrandRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> brands_pb2.GetBrandResponse:
        del context
        tenant = optional_uuid_of(request.tenant_id, "tenant_id")
        async with self._db.unit(tenant) as unit:
            brand = await brands.default(unit)
        if brand is None:
            raise NotFound(what="default brand")
        return brands_pb2.GetBrandResponse(brand=brands_pb2.Brand(tenant_id=request.tenant_id, **asdict(brand)))
