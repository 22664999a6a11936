"""Vaults on a server of S3, and restic on the same server."""

import os
import subprocess

from client.cli.tests.terminal import Terminal

KEY, SECRET = "zqx-key-of-a-store-7420", "zqx-secret-of-a-store-7421"


def add(terminal: Terminal, name: str, address: str, *options: str, password: str = "") -> tuple[int, str, str]:
    """`vault add` for ENDPOINT/BUCKET/PREFIX."""
    lines = f"{SECRET}\n{password}"
    return terminal(
        "vault", "add", "--s3", address, "--access-key", KEY, "--secret-stdin", "--name", name, *options, given=lines
    )


def restic(address: str, password: str, *arguments: str) -> str:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RESTIC_"))},
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "RESTIC_PASSWORD": password,
        "RESTIC_REPOSITORY": f"s3:{address}",
    }
    done = subprocess.run(
        ["restic", "--no-cache", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
