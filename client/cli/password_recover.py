"""backup-tool password recover"""

from client.cli.console import say, telling
from client.cli.invocation import PasswordStdin, read_secrets
from client.cli.login import CaFile, Server, Tenant, Username


def password_recover(
    server: Server, ca: CaFile, username: Username, tenant: Tenant = "", password_stdin: PasswordStdin = False
) -> None:
    """Set a new password with the recovery code (on standard input: the code, then the new password)."""
    from client.account import login as logins

    code, new = read_secrets(
        ["Recovery code", "New password"],
        from_stdin=password_stdin,
        option="--password-stdin",
        confirm="New password",
    )
    logins.recover(logins.Server(server, ca, tenant), username, code, new)
    with telling("the password is set"):
        say("The password is set: `backup-tool login` takes it now.")
