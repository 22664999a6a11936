"""backup-tool password recovery-code"""

import click

from client.cli.console import emit, note, say, telling
from client.cli.invocation import Invocation, Json, PasswordStdin, read_secrets


def password_recovery_code(
    context: click.Context, password_stdin: PasswordStdin = False, as_json: Json = False
) -> None:
    """Make a recovery code, to be kept on paper. It replaces the former one."""
    from client.account import login as logins

    (password,) = read_secrets(["Password"], from_stdin=password_stdin, option="--password-stdin")
    code = logins.set_recovery_code(Invocation.of(context).home, password)
    with telling("a new code was made, and the former one is void: make another"):
        if as_json:
            emit({"recovery_code": code})
        else:
            say(code)
    if not as_json:
        note("Print it and keep it safe: it opens your account without the password. It is not shown again.")
