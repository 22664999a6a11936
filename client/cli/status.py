"""backup-tool status"""

from typing import Any

import click

from client.cli.console import emit, say
from client.cli.invocation import Invocation, Json
from client.errors import NotLoggedIn, OortError


def status(context: click.Context, as_json: Json = False) -> int:
    """Say who is logged in, where, and whether the server answers."""
    home = Invocation.of(context).home
    account = home.known_account()
    if account is None or not account.is_logged_in:
        if as_json:
            emit({"logged_in": False, "home": str(home.folder)})
        else:
            say(f"Not logged in (home {home.folder}).")
        return NotLoggedIn.exit_code
    answer, error = _ask(context)
    if as_json:
        emit(
            {
                "logged_in": not isinstance(error, NotLoggedIn),
                "home": str(home.folder),
                "server": account.server,
                "username": account.username,
                "tenant": answer.get("tenant", account.tenant),
                "user": str(account.user_id),
                "device": str(account.device_id),
                "reachable": error is None,
                "error": str(error) if error else None,
                "has_recovery": answer.get("has_recovery"),
            }
        )
        return error.exit_code if error else 0
    say(f"User    {account.username}" + (f" of {answer['tenant']}" if answer else ""))
    say(f"Server  {account.server}" + ("" if error is None else f": {error}"))
    say(f"Device  {account.device_id}")
    say(f"Home    {home.folder}")
    if answer and not answer["has_recovery"]:
        say("There is no recovery code yet: `backup-tool password recovery-code` makes one.")
    return error.exit_code if error else 0


def _ask(context: click.Context) -> tuple[dict[str, Any], OortError | None]:
    from oort.auth.v1 import accounts_pb2, accounts_pb2_grpc

    try:
        with Invocation.of(context).device() as device:
            accounts = accounts_pb2_grpc.AccountServiceStub(device.connection.channel)
            answer = device.connection.call(accounts.GetAccount, accounts_pb2.GetAccountRequest())
    except OortError as error:
        return {}, error
    return {"tenant": answer.tenant, "has_recovery": answer.has_recovery}, None
