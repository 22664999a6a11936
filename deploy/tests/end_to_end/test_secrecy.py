"""No server can read a byte: what a user's files say and are called is found nowhere on the servers' side."""

import base64
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from deploy.driver import Device, Operator
from deploy.local.folder import StackFolder
from deploy.local.postgres import PostgresServer, installation
from deploy.local.redis import RedisServer

CONTENT = "zqx-content-of-a-file-7411"
FILE = "zqx-name-of-a-file-7412"
FOLDER = "zqx-name-of-a-folder-7413"
ITEM = "zqx-path-of-an-item-7414"
PASSWORD = "zqx-Pass-word-7415-Kx"


def disguises(marker: str) -> list[bytes]:
    """The marker plain, in hex (as a dump writes bytes), and in base64 at each of its three alignments."""
    plain = marker.encode()
    inner = [base64.b64encode(b"\0" * shift + plain)[4:-4] for shift in range(3)]
    return [plain, plain.hex().encode(), *inner]


def port(operator: Operator, service: str) -> int:
    return int(StackFolder.find(operator.data).load().services[service].public.rpartition(":")[2])


def dumps(operator: Operator) -> Iterator[tuple[str, bytes]]:
    server = PostgresServer(operator.data / "postgres", port=port(operator, "postgres"))
    with psycopg.connect(server.superuser_dsn) as connection:
        names = [name for (name,) in connection.execute("select datname from pg_database where not datistemplate")]
    for name in names:
        dump = installation() / "bin/pg_dump"
        yield name, subprocess.run([dump, server.dsn(name)], capture_output=True, check=True, timeout=300).stdout


def redis_content(operator: Operator) -> bytes:
    server = RedisServer(operator.data / "redis", port=port(operator, "redis"))
    with redis.Redis.from_url(server.url) as connection:
        keys = list(connection.scan_iter())
        assert keys, "a signed-in device has a session here"
        values = [connection.dump(key) or b"" for key in keys]
    return b"\n".join([*keys, *values])


def found_in(data: bytes) -> list[str]:
    markers = (CONTENT, FILE, FOLDER, ITEM, PASSWORD)
    return [marker for marker in markers if any(disguise in data for disguise in disguises(marker))]


@pytest.mark.long
def test_planted_markers_are_found_nowhere_on_the_servers(own_stack: Operator, tmp_path: Path) -> None:
    source = tmp_path / ITEM
    (source / FOLDER).mkdir(parents=True)
    (source / FOLDER / FILE).write_text(CONTENT)
    # Bytes that compression leaves as they are, so that only encryption hides the marker.
    (source / "noise").write_bytes(os.urandom(4_096) + CONTENT.encode() + os.urandom(4_096))
    (source / FOLDER / f"{FILE}-unreadable").symlink_to(FILE)
    own_stack.add_user("marked", PASSWORD)
    device = Device(tmp_path / "home")
    device.log_in(own_stack, "marked", PASSWORD)
    device.request_vault("main")
    device.backup("main", source)
    (source / FOLDER / FILE).write_text(CONTENT * 2)
    device.backup("main", source)
    device.restore("main", tmp_path / "target")
    wrong = device.tool.run("restore", "latest", "--vault", "main", "--target", str(source))
    assert wrong.code == 2

    content = redis_content(own_stack)
    databases = dict(dumps(own_stack))
    assert {"oort_auth", "oort_storage", "oort_license"} <= databases.keys()
    assert found_in(content) == []
    assert {name: found_in(dump) for name, dump in databases.items() if found_in(dump)} == {}
    assert b"marked" in databases["oort_auth"]
    own_stack.down()
    files = [path for path in own_stack.data.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any("logs" in path.parts for path in files)
    assert {str(path): found_in(path.read_bytes()) for path in files if found_in(path.read_bytes())} == {}


def test_the_search_finds_what_is_there() -> None:
    for disguised in disguises(CONTENT):
        assert found_in(b"....." + disguised + b"....") == [CONTENT]
    for shift in range(3):
        assert found_in(base64.b64encode(b"y" * shift + CONTENT.encode() + b"yy")) == [CONTENT]
