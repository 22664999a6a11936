"""The embedded Postgres and Redis by themselves."""

import os
import socket
import stat
from pathlib import Path

import psycopg
import pytest
import redis

from deploy.local.errors import ServerDidNotStart
from deploy.local.postgres import PostgresServer, launchers
from deploy.local.redis import RedisServer


@pytest.fixture
def private_folder(tmp_path: Path) -> Path:
    """A folder that only its owner may enter, with a space in its name and a long path."""
    folder = tmp_path / "private" / ("long " * 20).strip() / ("longer " * 20).strip()
    folder.mkdir(parents=True)
    (tmp_path / "private").chmod(0o700)
    return folder


def _modes(folder: Path) -> dict[Path, tuple[int, int, int]]:
    found = {}
    for path in (folder, *folder.parents):
        status = path.stat()
        found[path] = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    return found


def test_postgres_keeps_data_over_a_stop_and_over_a_kill(private_folder: Path) -> None:
    before = _modes(private_folder)
    with PostgresServer(private_folder / "postgres", fast=True) as server:
        with psycopg.connect(server.superuser_dsn) as connection:
            connection.execute("create table kept (n int)")
            connection.execute("insert into kept values (1)")
        process = server.process
        assert process is not None
        living = process.find()
        assert living is not None
        living.kill()
        living.wait()
    for _ in range(2):  # after the kill, then after a stop
        with (
            PostgresServer(private_folder / "postgres", fast=True) as server,
            psycopg.connect(server.superuser_dsn) as connection,
        ):
            assert connection.execute("select n from kept").fetchall() == [(1,)]
    assert _modes(private_folder) == before


def test_a_postgres_left_by_a_killed_owner_is_taken_over(tmp_path: Path) -> None:
    forgotten = PostgresServer(tmp_path / "postgres", fast=True)
    forgotten.start()
    left = forgotten.process
    assert left is not None
    with PostgresServer(tmp_path / "postgres", fast=True) as server:
        assert not left.alive
        psycopg.connect(server.superuser_dsn).close()
    forgotten.stop()


def test_a_stale_pid_file_that_names_another_program_is_no_obstacle(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "postgres", fast=True)
    server.start()
    server.stop()
    (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n{server.data}\n1\n{server.port}\n\n127.0.0.1\n")
    with server:
        psycopg.connect(server.superuser_dsn).close()


def test_postgres_refuses_who_has_no_password(tmp_path: Path) -> None:
    with PostgresServer(tmp_path / "postgres", fast=True) as server:
        for password in ("", "wrong"):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(host="127.0.0.1", port=server.port, user="postgres", password=password)


@pytest.mark.parametrize("way", range(len(launchers())))
def test_every_way_to_start_postgres_works_where_it_is_allowed(tmp_path: Path, way: int) -> None:
    server = PostgresServer(tmp_path / "postgres", fast=True, ways=[launchers()[way]])
    try:
        server.start()
    except ServerDidNotStart as error:
        pytest.skip(f"not allowed here: {error}")
    psycopg.connect(server.superuser_dsn).close()
    server.stop()


def test_a_folder_changes_hands_when_another_way_must_be_taken(tmp_path: Path) -> None:
    for launcher in [*launchers(), launchers()[0]]:
        server = PostgresServer(tmp_path / "postgres", fast=True, ways=[launcher])
        try:
            server.start()
        except ServerDidNotStart:
            continue
        psycopg.connect(server.superuser_dsn).close()
        server.stop()


def test_a_taken_port_stops_postgres_with_a_reason(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = PostgresServer(tmp_path / "postgres", port=other.getsockname()[1], fast=True)
        with pytest.raises(ServerDidNotStart, match="Address already in use"):
            server.start()


def test_redis_wants_its_password_and_keeps_it_over_a_restart(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        with redis.Redis.from_url(server.url) as connection:
            assert connection.ping()
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        password = server.password
    with RedisServer(tmp_path / "redis") as server:
        assert server.password == password
    assert stat.S_IMODE((tmp_path / "redis" / "password").stat().st_mode) == 0o600
