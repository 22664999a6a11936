from psycopg.rows import class_row

from services.branding.brands import Brand
from services.common.database import Unit


async def default(unit: Unit) -> Brand | None:
    """The installation's brand; None if an operator has deleted its row."""
    async with unit.cursor(row_factory=class_row(Brand)) as cursor:
        await cursor.execute(
            "select product_name, company_name, help_url, top_colour, accent_colour, default_server from default_brand"
        )
        return await cursor.fetchone()
