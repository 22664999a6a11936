"""How a tenant's clients and pages look and are named."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Brand:
    """Colours are `#rrggbb`; `default_server` is host:port of the auth role, or empty."""

    product_name: str
    company_name: str
    help_url: str
    top_colour: str
    accent_colour: str
    default_server: str
