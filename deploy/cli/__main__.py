"""`oort`, the operator's command: the embedded stack, users, tenants, sessions, buckets, quotas, nodes, the demo.

Exit codes are those of `backup-tool` (client/errors.py): 0 done, 1 error, 2 usage, 3 done with warnings, 4 login, 5
server unreachable, 6 no such bucket, 8 something is lost, 130 interrupted. `stack status` ends with 1 when the stack
does not run.
"""

import sys

import typer

from client.errors import OortError
from deploy.cli import accounts, buckets, copies, demo, nodes, quotas, regions, rescan, seeding, stack

USAGE = 2
INTERRUPTED = 130

app = typer.Typer(
    name="oort", help="Run and administer Oort.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)
buckets.app.command(name="list")(copies.list_buckets)
buckets.app.command(name="scrub")(copies.scrub)
buckets.app.command(name="export")(seeding.export_bucket)
buckets.app.command(name="import")(seeding.import_bucket)
buckets.app.command(name="adopt")(seeding.adopt_bucket)
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
    """Run a command; every failure is one line on stderr and an exit code."""
    try:
        result = app(standalone_mode=False)  # answers the code of typer.Exit, and 130 after Ctrl-C
        if result == INTERRUPTED:
            sys.stderr.write("oort: interrupted\n")
    except OortError as error:
        sys.stderr.write(f"oort: {error}\n")
        return error.exit_code
    except typer.Abort:
        sys.stderr.write("oort: interrupted\n")
        return INTERRUPTED
    except typer.TyperException as error:
        said = getattr(error, "format_message", error.__str__)()
        is_help = type(error).__name__ == "NoArgsIsHelpError"
        sys.stderr.write(f"{said}\n" if is_help else f"oort: {said}\n")
        return USAGE
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; nothing more can be said
        return 1
    except OSError as error:
        sys.stderr.write(f"oort: {error.filename or 'the system'}: {error.strerror or error}\n")
        return 1
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
