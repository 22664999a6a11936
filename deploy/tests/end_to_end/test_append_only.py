"""A stolen device that may only add tries to destroy a bucket: by its commands, by raw calls, over restic's port."""

import base64
import http.client
import json
import secrets
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from oort.auth.v1.profiles_pb2 import IssueVaultTokenRequest
from oort.storage.v1 import objects_pb2, objects_pb2_grpc, sessions_pb2, sessions_pb2_grpc

from client.account.device import Device as Account
from client.account.home import Home
from client.account.login import Server, login
from client.account.vaults import Vaults
from client.errors import AppendOnly
from client.rpc import Refusal, read_refusal, tls_channel
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.conftest import a_user
from domain.ids import uuid7
from domain.names import ObjectKind, ObjectName
from domain.sessions import Purpose, Scope, opening_statement

VERSION_2 = "application/vnd.x.restic.rest.v2"


@dataclass(frozen=True)
class Scene:
    """A user's own device, and one that was stolen after it had backed up too; each has a snapshot in `main`."""

    owner: Device
    thief: Device


@pytest.fixture(scope="module")
def scene(stack: Operator, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("stolen")
    source = folder / "source"
    source.mkdir()
    (source / "letter").write_text("dear owner")
    place, user = Server(stack.env["OORT_AUTH"], Path(stack.env["OORT_CA"])), a_user(stack)
    owner, thief = Device(folder / "owner"), Device(folder / "thief")
    login(Home(owner.home), place, *user)
    login(Home(thief.home), place, *user, append_only=True)
    with Account(Home(owner.home)) as account:
        Vaults(account).request("main", "default")
    for device in (owner, thief):
        device.backup("main", source)
    return Scene(owner, thief)


def test_a_stolen_device_that_may_only_add_removes_nothing_by_its_commands(scene: Scene) -> None:
    thief, vault = scene.thief, ("--vault", "main")
    snapshot = scene.owner.snapshots("main")[0]["id"]
    key = thief.tool.ok("key", "list", *vault, "--json").json()[0]["id"]
    commands = (
        ("retention", *vault, "--keep-last", "1", "--prune"),
        ("tag", snapshot, "--add", "x", *vault),
        ("key", "remove", key, *vault, "--yes"),
        ("key", "change", *vault, "--yes"),
        ("repair", *vault, "--forget", "--yes"),
        ("rebuild-index", *vault),
        ("vault", "retention", "main", "--keep-last", "1"),
        ("vault", "rest", "main"),
        ("vault", "rest", "main", "--revoke"),
        ("device", "append-only", "--off"),
    )
    said = "lets this device only add: another one must do this."
    answers = [thief.tool.run(*command) for command in commands]
    assert not [answer for answer in answers if answer.code != AppendOnly.exit_code or said not in answer.stderr]
    assert_unharmed(scene)


def test_a_stolen_device_that_may_only_add_removes_nothing_by_raw_calls(scene: Scene) -> None:
    with raw_calls(scene.thief) as calls:
        backup, adoption = calls.open(Purpose.BACKUP), calls.open(Purpose.ADOPT)
        assert calls.refusal(lambda: calls.open(Purpose.RETENTION)).reason == "NOT_ALLOWED"
        with raw_calls(scene.owner) as owners:
            running = owners.open(Purpose.BACKUP)
            retention = owners.open(Purpose.RETENTION)
            listed = {kind: calls.names(backup, kind) for kind in ("snapshots", "index", "data", "keys")}
            sessions, objects = calls.sessions, calls.objects
            for session in (backup, adoption, running, retention):
                for snapshot in listed["snapshots"]:
                    request = sessions_pb2.RemoveRequest(session_id=session, name=snapshot)
                    assert calls.refusal(sessions.Remove, request).code is grpc.StatusCode.PERMISSION_DENIED
                mark = sessions_pb2.MarkRequest(session_id=session, mark_id=session)
                assert calls.refusal(sessions.Mark, mark).reason == "NOT_ALLOWED"
                for kind in ("index", "data", "keys"):
                    condemn = sessions_pb2.CondemnRequest(session_id=session, names=listed[kind])
                    assert calls.refusal(sessions.Condemn, condemn).reason == "NOT_ALLOWED"
                seal = objects_pb2.ReplaceSealRequest(session_id=session, seal=b"rubbish")
                assert calls.refusal(objects.ReplaceSeal, seal).reason == "NOT_ALLOWED"
            for session in (running, retention):
                assert calls.refusal(sessions.End, sessions_pb2.EndRequest(session_id=session)).reason == "NOT_ALLOWED"
            for name in (*listed["data"], *listed["index"], *listed["keys"]):
                assert calls.overwrites(backup, name) in ("NAME_MISMATCH", "EXISTED")
            again = objects_pb2.InitialiseRequest(
                session_id=backup, key_name=str(ObjectName.of(ObjectKind.KEY, b"k")), key=b"k", config=b"c", seal=b"s"
            )
            assert not objects.Initialise(again, metadata=calls.metadata).created
            owners.end(running, retention)
        calls.end(backup, adoption)
    assert_unharmed(scene)


def test_a_stolen_device_that_may_only_add_removes_nothing_over_the_rest_port(scene: Scene) -> None:
    found = scene.thief.tool.ok("vault", "rest", "main", "--append-only", "--json").json()
    with rest_port(found["url"], found["ca"]) as ask:
        body = secrets.token_bytes(150)
        lock = str(ObjectName.of(ObjectKind.LOCK, body))
        assert ask("POST", lock, body)[0] == 200
        for kind in ("snapshots", "index", "data", "keys"):
            names = [one["name"] for one in ask("GET", f"{kind}/")[1]]
            assert names
            for name in names:
                assert ask("DELETE", f"{kind}/{name}")[0] == 403
                assert ask("POST", f"{kind}/{name}", b"rubbish")[0] == 400
        assert ask("DELETE", "config")[0] == 403
        assert ask("DELETE", "")[0] == 501
        assert ask("POST", "?create=true")[0] == 200
        assert ask("POST", "config", b"rubbish")[0] == 403
        assert ask("DELETE", lock)[0] == 200
    assert_unharmed(scene)


def assert_unharmed(scene: Scene) -> None:
    assert len(scene.owner.snapshots("main")) == 2
    scene.owner.tool.ok("check", "--vault", "main", "--read-data")


@dataclass
class RawCalls:
    """What a device can say to a storage node, past its own program."""

    account: Account
    bucket: str
    token: str
    sessions: Any
    objects: Any

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)

    def open(self, purpose: Purpose) -> str:
        session = str(uuid7(1_767_225_600_000, secrets.token_bytes(10)))
        signed = self.account.key.sign(opening_statement(session, self.bucket, purpose, ""))
        request = sessions_pb2.OpenRequest(session_id=session, purpose=purpose.value, device_signature=signed)
        self.sessions.Open(request, metadata=self.metadata)
        return session

    def end(self, *sessions: str) -> None:
        for session in sessions:
            self.sessions.End(sessions_pb2.EndRequest(session_id=session), metadata=self.metadata)

    def names(self, session: str, kind: str) -> list[str]:
        request = objects_pb2.ListRequest(session_id=session, kind=kind)
        return [one.name for one in self.objects.List(request, metadata=self.metadata).objects]

    def refusal(self, call: Callable[..., object], request: object = None) -> Refusal:
        with pytest.raises(grpc.RpcError) as refused:
            call(request, metadata=self.metadata) if request is not None else call()
        return read_refusal(refused.value)

    def overwrites(self, session: str, name: str) -> str:
        """Why it does not."""
        header = objects_pb2.PutHeader(session_id=session, name=name, size=7)
        parts = [objects_pb2.PutRequest(header=header), objects_pb2.PutRequest(frame=b"rubbish")]
        try:
            answer = self.objects.Put(iter(parts), metadata=self.metadata)
        except grpc.RpcError as error:
            return read_refusal(error).reason
        return "EXISTED" if answer.existed else "STORED"


@contextmanager
def raw_calls(device: Device) -> Iterator[RawCalls]:
    with Account(Home(device.home)) as account:
        [vault] = Vaults(account).all()
        request = IssueVaultTokenRequest(vault_id=vault.id, scopes=list(Scope))
        issued = account.connection.call(account.profiles.IssueVaultToken, request)
        with tls_channel(issued.endpoints[0], account.home.ca()) as channel:
            sessions, objects = (
                sessions_pb2_grpc.SessionServiceStub(channel),
                objects_pb2_grpc.ObjectServiceStub(channel),
            )
            yield RawCalls(account, vault.bucket_id, issued.token, sessions, objects)


@contextmanager
def rest_port(url: str, ca: str) -> Iterator[Callable[..., tuple[int, Any]]]:
    """Requests below a URL as restic has it; each answers its status, and the JSON that came."""
    place = urlsplit(url.removeprefix("rest:"))
    shown = base64.b64encode(f"{place.username}:{place.password}".encode()).decode()
    connection = http.client.HTTPSConnection(
        str(place.hostname), place.port, context=ssl.create_default_context(cafile=ca)
    )
    headers = {"Authorization": f"Basic {shown}", "Accept": VERSION_2}

    def ask(method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        connection.request(method, f"{place.path}{path}", body, headers)
        answer = connection.getresponse()
        said = answer.read()
        return answer.status, json.loads(said) if answer.headers.get_content_type() == VERSION_2 else said

    try:
        yield ask
    finally:
        connection.close()
