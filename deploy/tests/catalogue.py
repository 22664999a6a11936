"""The storage role's database of a stack that is up, past its services."""

import time

import psycopg

from deploy.local import roles
from deploy.local.folder import StackFolder
from deploy.local.postgres import PostgresServer

_PATIENCE_SECONDS = 180.0


def lose_the_storage_database(stack: StackFolder) -> None:
    """Whoever is connected to it: the server itself waits no more than 5 s for those that it has ended to be gone."""
    end = time.monotonic() + _PATIENCE_SECONDS
    with superuser(stack, "postgres") as administrator:
        is_there = True
        while is_there:
            try:
                administrator.execute(f"drop database {roles.DATABASES['storage']} with (force)")
                is_there = False
            except psycopg.errors.ObjectInUse:
                if time.monotonic() > end:
                    raise


def superuser(stack: StackFolder, database: str) -> "psycopg.Connection[tuple[object, ...]]":
    """Autocommits."""
    server = PostgresServer(stack.path / "postgres")
    server.port = int(stack.load().services["postgres"].public.rpartition(":")[2])
    return psycopg.connect(server.dsn(database), autocommit=True)
