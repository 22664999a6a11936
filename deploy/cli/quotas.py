"""`oort quota`: what buckets of a tenant may have together; `oort bucket quota`: what each may have by itself."""

from typing import Annotated

import typer

from deploy.cli.copies import AsJson, Data
from deploy.cli.ids import BucketId, TenantId
from deploy.cli.options import At
from domain.wording import plural

app = typer.Typer(help="Quotas that several buckets share.", no_args_is_help=True)

_LARGEST = (1 << 63) - 1


@app.command("set")
def set_quota(
    tenant: TenantId,
    size: Annotated[str, typer.Argument(metavar="SIZE", help="bytes, or with K, M, G or T; 0: no limit any more")],
    data: Data,
    name: Annotated[str, typer.Option("--name", help="of this group of buckets; default: of all of the tenant")] = "",
    at: At = None,
) -> None:
    """Set what all buckets of a tenant may have together, or those of a group (`oort quota group`)."""
    from deploy.local.cluster import Cluster

    limit = limit_of(size)
    with Cluster.of_stack(data, at) as cluster:
        cluster.set_quota(tenant, name, limit)
        is_known = any(bucket.tenant_id == tenant.lower() for bucket in cluster.buckets())
    typer.echo(f"{plural(limit, 'byte')} for them together." if limit else "They have no quota together any more.")
    if limit and not is_known:
        typer.echo(f"oort: no bucket here is of tenant {tenant} yet: see that its id is right.", err=True)


@app.command("list")
def list_quotas(data: Data, at: At = None, as_json: AsJson = False) -> None:
    """Show all of them, and how much of each is used; one without a name is of all buckets of its tenant."""
    from deploy.cli.accounts import show
    from deploy.local.cluster import Cluster

    with Cluster.of_stack(data, at) as cluster:
        rows = [
            {"tenant": quota.tenant_id, "name": quota.name, "bytes": quota.bytes, "used_bytes": quota.used_bytes}
            for quota in cluster.quotas()
        ]
    show(rows, ("tenant", "name", "bytes", "used_bytes"), as_json=as_json)


@app.command("group")
def group(
    bucket: BucketId,
    data: Data,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="of the group; default: none")] = "",
    at: At = None,
) -> None:
    """Put a bucket in a group, whose quota it is under besides its own, or take it out of all."""
    from deploy.local.cluster import Cluster

    with Cluster.of_stack(data, at) as cluster:
        cluster.set_group(bucket, name)
    typer.echo(f"The bucket is in group {name}." if name else "The bucket is in no group.")


def set_bucket_quota(
    bucket: BucketId,
    size: Annotated[str, typer.Argument(metavar="SIZE", help="bytes, or with K, M, G or T; 0: no limit any more")],
    data: Data,
    at: At = None,
) -> None:
    """Set what one bucket may have, in the place of what its template said. Devices have it within 15 minutes."""
    from client.cli.console import size_text
    from deploy.local.auth import set_vault_quota
    from deploy.local.cluster import Cluster
    from deploy.local.regions import Region

    limit = limit_of(size)
    with Cluster.of_stack(data, at) as cluster:
        cluster.bucket(bucket)
        # The tokens first: a rescan asks the auth role, so that what is said there is not undone by one.
        set_vault_quota(data, bucket, limit)
        found = cluster.set_bucket_quota(bucket, limit)
        before, now = (size_text(one) if one else "no limit" for one in (found.bytes_before, limit))
        typer.echo(f"Quota of the bucket: {now}; before: {before}. It has {size_text(found.used_bytes)}.")
        followers = Region(cluster).status(bucket).followers
    for one in followers:
        typer.echo(
            f"oort: cluster {one.cluster} follows the bucket and keeps the quota that it has there, which holds when it"
            " is promoted: say it there too, with --at.",
            err=True,
        )


def limit_of(size: str) -> int:
    """Bytes of a quota as it is typed. Raises UsageError."""
    from client.cli.amounts import size_of
    from client.errors import UsageError

    limit = size_of(size)
    if limit > _LARGEST:
        raise UsageError(detail=f"{size} is more than a quota can have.")
    return limit
