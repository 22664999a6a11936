"""What must be found nowhere but with its owner: passwords' keys, tokens, codes."""

import asyncio
import base64
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import structlog
from oort.auth.v1 import accounts_pb2
from psycopg import sql

from services.auth.credentials import Kdf, Prover
from services.auth.tests.kit import PEPPER, Ground, World, credentials_with, refused
from services.common import logs


def forms_of(secret: bytes) -> set[str]:
    """How a secret would look in a log or a dump."""
    return {
        secret.hex(),
        base64.b64encode(secret).decode(),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
        repr(secret)[2:-1],
    }


async def a_life(world: World) -> list[bytes]:
    """Sign in, fail, change, recover, meet outages; the secrets that were used."""
    session = await world.a_signed_in_user()
    person = session.person
    code, new, wrong = (secrets.token_bytes(32) for _ in range(3))
    with refused("WRONG_CREDENTIALS"):
        await world.log_in(person, login_key=wrong)
    await world.accounts.SetRecovery(
        accounts_pb2.SetRecoveryRequest(login_key=person.login_key, recovery_key=code, sealed_key=b"s"),
        metadata=session.metadata,
    )
    await world.accounts.ChangePassword(
        accounts_pb2.ChangePasswordRequest(login_key=person.login_key, credentials=credentials_with(new)),
        metadata=session.metadata,
    )
    await world.accounts.GetRecoverySeal(
        accounts_pb2.GetRecoverySealRequest(tenant=person.tenant, username=person.username, recovery_key=code)
    )
    return [person.login_key, code, new, wrong, session.token.encode(), bytes.fromhex(session.token)]


@contextmanager
def logging_all() -> Iterator[None]:
    """Logs as the process writes them, down to debug; as before afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure("debug", role="auth", instance="auth-1")
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()


def everything_in(dsn: str, database: str) -> str:
    with psycopg.connect(dsn, dbname=database) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        return "\n".join(
            str(row[0])
            for (table,) in tables
            for row in connection.execute(sql.SQL("select t::text from {} t").format(sql.Identifier(table)))
        )


async def test_secrets_are_found_neither_in_postgres_nor_in_redis_nor_in_a_log(
    ground: Ground, postgres: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with logging_all():
        async with ground.world() as world:
            used = await a_life(world)
            await world.db.close()
            with refused("UNAVAILABLE"):
                await world.the_first_admin()
            redis = ""
            async for key in world.redis.scan_iter("*"):
                redis += f"{key!r} {await world.redis.get(key)!r}\n"
    out, err = capfd.readouterr()
    name = psycopg.conninfo.conninfo_to_dict(ground.database.owner)["dbname"]
    database = await asyncio.to_thread(everything_in, postgres.superuser_dsn, str(name))
    assert "oort:auth:session:" in redis
    assert "unavailable" in err
    for secret in used:
        for form in forms_of(secret):
            assert form not in database
            assert form not in redis
            assert form not in out + err


def test_a_proof_depends_on_salt_pepper_and_secret() -> None:
    prover = Prover(PEPPER)
    proof = prover.prove(b"L" * 32)
    assert prover.matches(proof, b"L" * 32)
    assert not prover.matches(proof, b"M" * 32)
    assert not Prover(b"another pepper".ljust(32)).matches(proof, b"L" * 32)
    assert prover.prove(b"L" * 32) != proof
    assert not prover.matches(None, b"L" * 32)


def test_no_secret_is_shown_by_repr() -> None:
    from services.auth.credentials import Credentials

    shown = repr(Credentials(Kdf(bytes(16)), b"the login key", b"the sealed key"))
    assert "the login key" not in shown
