from collections.abc import Callable

import grpc
import psycopg
import pytest
from oort.branding.v1 import brands_pb2, brands_pb2_grpc

from services.branding.rpc.brands import BrandsRpc
from services.common.database import Database
from services.common.listeners import Served
from services.common.provision import DatabaseUrls
from services.common.testing.server import Certificates, reason_of, serving

NAME = "oort.branding.v1.BrandService"


async def test_any_tenant_gets_the_default_brand_as_the_operator_last_wrote_it(
    a_database: Callable[[str], DatabaseUrls], installation: Certificates
) -> None:
    urls = a_database("branding")
    db = await Database.open(urls.app, urls.worker, connections=1, wait_seconds=60)
    public = [Served(brands_pb2_grpc.add_BrandServiceServicer_to_server, BrandsRpc(db), NAME)]
    async with (
        serving("branding", installation, public=public) as endpoints,
        endpoints.public_channel() as channel,
    ):
        stub = brands_pb2_grpc.BrandServiceStub(channel)
        ours = (await stub.GetBrand(brands_pb2.GetBrandRequest(), timeout=60)).brand
        assert (ours.tenant_id, ours.product_name, ours.top_colour) == ("", "Oort", "#12233d")

        async with db.unit() as unit:
            await unit.execute("update default_brand set product_name = 'Example Backup'")
        tenant = "01890a5d-ac96-774b-bcce-b302099a8057"
        theirs = (await stub.GetBrand(brands_pb2.GetBrandRequest(tenant_id=tenant), timeout=60)).brand
        assert (theirs.tenant_id, theirs.product_name) == (tenant, "Example Backup")

        async with db.unit() as unit:
            await unit.execute("delete from default_brand")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetBrand(brands_pb2.GetBrandRequest(), timeout=60)
        assert reason_of(refused.value) == "NOT_FOUND"
    await db.close()


def test_there_is_one_default_brand_and_its_colours_are_colours(a_database: Callable[[str], DatabaseUrls]) -> None:
    with psycopg.connect(a_database("branding").app, autocommit=True) as app:
        with pytest.raises(psycopg.errors.UniqueViolation):
            app.execute("insert into default_brand select * from default_brand")
        with pytest.raises(psycopg.errors.CheckViolation):
            app.execute("update default_brand set accent_colour = 'red'")
