"""Ids as an operator types them: what is none is refused before anybody is asked, with where the right ones are."""

from typing import Annotated
from uuid import UUID

import typer

from client.errors import UsageError


def _bucket(text: str) -> str:
    return _checked(text, "a bucket: `oort bucket list` shows them, and a bucket has the id of its vault")


def _tenant(text: str) -> str:
    return _checked(text, "a tenant: `oort tenant list` shows them")


def _session(text: str) -> str:
    return _checked(text, "a session: `oort session list` shows them")


def _checked(text: str, of_what: str) -> str:
    """Raises UsageError. The empty text is what an option has that was not given."""
    try:
        return text and str(UUID(text))
    except ValueError:
        raise UsageError(detail=f"'{text}' is no id of {of_what}.") from None


BucketId = Annotated[str, typer.Argument(metavar="BUCKET", help="its id, which is the vault's", callback=_bucket)]
AnyBucketId = Annotated[str, typer.Argument(help="id of one bucket, which is its vault's", callback=_bucket)]
VaultOption = Annotated[
    str, typer.Option("--vault", help="id of one vault; default: all of the tenant", callback=_bucket)
]
TenantId = Annotated[
    str, typer.Argument(metavar="TENANT", help="its id, as `oort tenant list` shows it", callback=_tenant)
]
TenantOption = Annotated[
    str, typer.Option("--tenant", help="id of another tenant; default: the administrator's", callback=_tenant)
]
SessionId = Annotated[str, typer.Argument(help="its id, as `oort session list` shows it", callback=_session)]
