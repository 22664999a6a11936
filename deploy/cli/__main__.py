"""`oort`, the operator's command: the embedded stack, users, tenants, sessions, buckets, quotas, nodes, the demo.

Exit codes are those of `backup-tool` (client/errors.py): 0 done, 1 error, 2 usage, 3 done with warnings, 4 login, 5
server unreachable, 6 no such bucket, 8 something is lost, 130 interrupted, 141 nobody reads. `stack status` ends with
1 when the stack does not run.
"""

import sys
from collections.abc import Sequence

import typer
from typer.main import get_command

from deploy.cli import accounts, buckets, copies, demo, failures, nodes, quotas, regions, rescan, seeding, stack

app = typer.Typer(
    name="oort", help="Run and administer Oort.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)
buckets.app.command(name="list")(copies.list_buckets)
buckets.app.command(name="scrub")(copies.scrub)
buckets.app.command(name="export")(seeding.export_bucket)
buckets.app.command(name="import")(seeding.import_bucket)
buckets.app.command(name="adopt")(seeding.adopt_bucket)
buckets.app.command(name="quota")(quotas.set_bucket_quota)
buckets.app.command(name="follow")(regions.follow)
buckets.app.command(name="status")(regions.status)
buckets.app.command(name="following")(regions.list_following)
buckets.app.command(name="unfollow")(regions.unfollow)
buckets.app.command(name="promote")(regions.promote)
buckets.app.command(name="move")(regions.move)
clusters = typer.Typer(help="Storage clusters, one for each region.", no_args_is_help=True)
clusters.command(name="add")(regions.add_cluster)
storage_nodes = typer.Typer(help="The storage nodes.", no_args_is_help=True)
storage_nodes.command(name="list")(nodes.list_nodes)
storage_nodes.command(name="disks")(nodes.list_disks)
storage_nodes.command(name="drain")(nodes.drain)
storage_nodes.command(name="undrain")(nodes.undrain)
storage_nodes.command(name="remove")(nodes.remove)
storage_nodes.command(name="rescan")(rescan.rescan)
app.add_typer(stack.app, name="stack")
app.add_typer(accounts.users, name="user")
app.add_typer(accounts.tenants, name="tenant")
app.add_typer(accounts.templates, name="template")
app.add_typer(accounts.sessions, name="session")
app.add_typer(buckets.app, name="bucket")
app.add_typer(quotas.app, name="quota")
app.add_typer(storage_nodes, name="node")
app.add_typer(clusters, name="cluster")
app.command(name="demo")(demo.demo)


def main() -> int:
    """Run a command; every failure is one line on stderr, with --json one object, and an exit code."""
    arguments = sys.argv[1:]
    try:
        _carry_out(arguments)
    except typer.Exit as end:
        return end.exit_code
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - told by its kind, and what has none by a report
        return failures.tell(error, as_json="--json" in arguments)
    return 0


def _carry_out(arguments: Sequence[str]) -> None:
    """Not by typer's own `main`, which has words of its own for interruptions and closed pipes."""
    command = get_command(app)
    with command.make_context("oort", list(arguments)) as context:
        command.invoke(context)


if __name__ == "__main__":
    sys.exit(main())
