"""`oort user`, `tenant`, `template`, `session`: what an administrator does through the auth role."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.errors import UsageError
from deploy.cli.ids import SessionId, TenantOption, VaultOption

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from deploy.administrator import Administrator

users = typer.Typer(help="The users of a tenant.", no_args_is_help=True)
tenants = typer.Typer(help="The tenants of the installation.", no_args_is_help=True)
templates = typer.Typer(help="What vaults can be requested from.", no_args_is_help=True)
sessions = typer.Typer(help="Open sessions on the vaults of a tenant.", no_args_is_help=True)

Data = Annotated[Path | None, typer.Option("--data", help="folder of an embedded stack; default: OORT_* variables")]
PasswordOnStdin = Annotated[bool, typer.Option("--password-stdin", help="read the password from standard input")]
AsJson = Annotated[bool, typer.Option("--json", help="for scripts")]

_MOST_COPIES = 16  # of a bucket
_WARNINGS = 3  # docs/exit-codes.md: done, and not with everything


@users.command("add")
def add_user(
    name: Annotated[str, typer.Argument(help="the new user's name")],
    password_stdin: PasswordOnStdin = False,
    admin: Annotated[bool, typer.Option("--admin", help="make an administrator of the tenant")] = False,
    tenant: TenantOption = "",
    data: Data = None,
) -> None:
    """Add a user. Without --password-stdin the password is asked for."""
    password = _password(name, from_stdin=password_stdin)
    with _signed_in(data) as administrator:
        administrator.add_user(name, password, admin=admin, tenant=tenant)
    typer.echo(f"User {name} is added.")


@users.command("list")
def list_users(as_json: AsJson = False, data: Data = None) -> None:
    """Show the users of the administrator's tenant."""
    with _signed_in(data) as administrator:
        rows = [entry.to_json() for entry in administrator.users()]
    show(rows, ("username", "role", "suspended", "created"), as_json=as_json)


UserName = Annotated[str, typer.Argument(help="the user's name, as `oort user list` shows it")]


@users.command("suspend")
def suspend_user(name: UserName, data: Data = None) -> None:
    """Keep a user out, with all devices, from the next call on. Nothing of theirs is lost; `resume` lets them in again.

    Vault tokens that their devices hold are good for up to 15 minutes; `oort session end` ends what is open.
    """
    with _signed_in(data) as administrator:
        administrator.suspend(name, suspended=True)
    typer.echo(f"User {name} is suspended.")


@users.command("resume")
def resume_user(name: UserName, data: Data = None) -> None:
    """Let a suspended user in again, with the devices as they were."""
    with _signed_in(data) as administrator:
        administrator.suspend(name, suspended=False)
    typer.echo(f"User {name} is let in again.")


@tenants.command("add")
def add_tenant(
    name: Annotated[str, typer.Argument(help="the new tenant's name")],
    admin: Annotated[str, typer.Option("--admin", help="user name of its first administrator")],
    password_stdin: PasswordOnStdin = False,
    data: Data = None,
) -> None:
    """Add a tenant with its first administrator."""
    password = _password(admin, from_stdin=password_stdin)
    with _signed_in(data) as administrator:
        tenant = administrator.add_tenant(name, admin, password)
    typer.echo(f"Tenant {name} is added, with id {tenant}.")


@tenants.command("list")
def list_tenants(as_json: AsJson = False, data: Data = None) -> None:
    """Show all tenants."""
    with _signed_in(data) as administrator:
        rows = [entry.to_json() for entry in administrator.tenants()]
    show(rows, ("name", "id", "created"), as_json=as_json)


@templates.command("add")
def add_template(
    name: Annotated[str, typer.Argument(help="the new template's name")],
    *,
    copies: Annotated[
        int, typer.Option("--copies", min=1, max=_MOST_COPIES, help="nodes that each hold all of a vault")
    ],
    ack_copies: Annotated[
        int,
        typer.Option(
            "--ack-copies", min=1, max=_MOST_COPIES, help="copies that must be whole before anything counts as stored"
        ),
    ] = 1,
    cluster: Annotated[str, typer.Option("--cluster", help="name of a storage cluster; default: the only one")] = "",
    quota: Annotated[
        str,
        typer.Option("--quota", metavar="SIZE", help="bytes that each vault may have, or with K, M, G or T; 0: any"),
    ] = "0",
    tenant: TenantOption = "",
    data: Data = None,
) -> None:
    """Add a template that the users of a tenant may request vaults from; none is replaced."""
    from deploy.cli.quotas import limit_of

    quota_bytes = limit_of(quota)
    with _signed_in(data) as administrator:
        administrator.add_template(name, copies, ack_copies, cluster=cluster, quota_bytes=quota_bytes, tenant=tenant)
    typer.echo(f"Template {name} is added.")


@templates.command("list")
def list_templates(as_json: AsJson = False, data: Data = None) -> None:
    """Show the templates that the administrator's tenant may request vaults from."""
    with _signed_in(data) as administrator:
        rows = [entry.to_json() for entry in administrator.templates()]
    show(rows, ("name", "cluster", "copies", "ack_copies", "quota_bytes", "description"), as_json=as_json)


@sessions.command("list")
def list_sessions(
    vault: VaultOption = "",
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """Show the open sessions, and how much that was removed each still keeps from being deleted for good."""
    with _signed_in(data) as administrator:
        entries, silent = administrator.sessions(vault)
    rows = [entry.to_json() for entry in entries]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        shown = ("id", "vault", "user", "device", "purpose", "opened", "last_beat", "holds_objects", "holds_bytes")
        show(rows, shown, as_json=False)
    for cluster in silent:
        typer.echo(f"oort: the storage cluster {cluster} does not answer: its sessions are not listed.", err=True)
    if silent:
        raise typer.Exit(_WARNINGS)


@sessions.command("end")
def end_session(session: SessionId, data: Data = None) -> None:
    """End a session. What it has stored stays, and its backup or restore goes on in a new one."""
    with _signed_in(data) as administrator:
        administrator.end_session(session)
    typer.echo(f"Session {session} is over.")


def _signed_in(data: Path | None) -> "AbstractContextManager[Administrator]":
    from deploy.administrator import Administrator, Target

    return Administrator.sign_in(Target.find(data))


def _password(name: str, *, from_stdin: bool) -> str:
    if not from_stdin:
        if not sys.stdin.isatty():
            raise UsageError(detail="There is no terminal to ask on: give it on standard input with --password-stdin.")
        return str(typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True))
    # One line, with the newline that `echo` adds taken off; what is no single line is refused later, by its reason.
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


def show(rows: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> None:
    """Write rows as JSON, or as a table of some of their columns."""
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    texts = [columns, *(tuple(str(row[column]) for column in columns) for row in rows)]
    widths = [max(len(text[place]) for text in texts) for place in range(len(columns))]
    for text in texts:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(text, widths, strict=True)).rstrip())
