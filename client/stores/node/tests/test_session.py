import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.errors import (
    AppendOnly,
    DamagedVault,
    NameMismatch,
    NotSupported,
    ObjectMissing,
    OortError,
    QuotaExceeded,
    SealChanged,
    ServerUnreachable,
    SessionOver,
    SnapshotHeld,
    SnapshotInUse,
    StoreError,
    StoreFull,
    TruncatedObject,
    UntrustedServer,
)
from client.rpc import Metadata, Pacing
from client.stores.abc import Refusal
from client.stores.node import NodeStore, VaultAccess
from client.stores.node.access import AccessKeeper
from client.stores.node.stalls import Stalled
from client.stores.node.tests.a_node import Bucket, Node
from client.stores.node.wire import FRAME_BYTES, Connection
from client.tests.servers import patient_probes, serving
from client.tests.tls import Authority, an_authority
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import NEEDED_SCOPE, Purpose, Scope, opening_statement

BUCKET = UUID(int=5)
UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")


@dataclass
class Clock:
    """Runs only while somebody sleeps."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)
    jitter: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def pacing(self) -> Pacing:
        return Pacing(120.0, monotonic=lambda: self.now, sleep=self.sleep, jitter=lambda: self.jitter)


@dataclass
class Cluster:
    """Two nodes and a store on them; the first is asked first."""

    authority: Authority
    nodes: list[Node]
    endpoints: list[str]
    clock: Clock
    device_key: Ed25519PrivateKey
    last: ExitStack
    issued: list[str] = field(default_factory=list)
    asked: list[tuple[Scope, ...]] = field(default_factory=list)
    auth_is_down: int = 0
    granted: frozenset[str] = frozenset(Scope)

    def issue(self, scopes: Sequence[Scope]) -> VaultAccess:
        self.asked.append(tuple(scopes))
        if self.auth_is_down:
            self.auth_is_down -= 1
            raise ServerUnreachable(server="auth", reason="it is down")
        self.issued.append("good" if self.issued else "first")
        return VaultAccess(self.issued[-1], tuple(self.endpoints), self.granted)

    def store(self, **others: object) -> NodeStore:
        arguments: dict[str, object] = {
            "bucket": BUCKET,
            "place": "The storage",
            "source": self.issue,
            "device_key": self.device_key,
            "ca_pem": self.authority.ca,
            "ca_file": "ca.pem",
            "pacing": self.clock.pacing(),
            **others,
        }
        store = NodeStore(**arguments)  # type: ignore[arg-type]
        self.last.callback(store.close)
        return store


@pytest.fixture(scope="module")
def authority() -> Authority:
    return an_authority()


@pytest.fixture
def cluster(authority: Authority) -> Iterator[Cluster]:
    bucket = Bucket(tokens={"first", "good"})
    nodes = [Node(bucket), Node(bucket)]
    with ExitStack() as last:
        endpoints = [last.enter_context(serving(authority, node.add_to)) for node in nodes]
        yield Cluster(authority, nodes, endpoints, Clock(), Ed25519PrivateKey.generate(), last)


def a_pack(size: int = 1000) -> tuple[ObjectName, bytes]:
    body = os.urandom(size)
    return ObjectName.of(ObjectKind.PACK, body), body


def test_an_opening_is_signed_by_the_device_for_this_bucket_purpose_and_parent(cluster: Cluster) -> None:
    parent = ObjectName.of(ObjectKind.SNAPSHOT, b"parent")
    with cluster.store().open(Purpose.BACKUP, parent):
        (request,) = cluster.nodes[0].opened
    assert request.parent == parent.id
    statement = opening_statement(request.session_id, str(BUCKET), Purpose.BACKUP, parent.id)
    cluster.device_key.public_key().verify(request.device_signature, statement)
    assert UUID(request.session_id).version == 7


def test_a_device_that_may_only_add_reads_and_backs_up_and_asks_no_node_for_a_retention(cluster: Cluster) -> None:
    cluster.granted = frozenset((Scope.READ, Scope.APPEND))
    store = cluster.store(purpose=Purpose.RETENTION)
    assert [store.allows(purpose) for purpose in (Purpose.READ, Purpose.BACKUP, Purpose.RETENTION)] == [1, 1, 0]
    for purpose in (Purpose.READ, Purpose.BACKUP):
        store.open(purpose).close()
    with pytest.raises(AppendOnly):
        store.open(Purpose.RETENTION)
    assert [one.purpose for node in cluster.nodes for one in node.opened] == ["read", "backup"]


def test_a_seal_whose_answer_was_lost_is_sent_again(cluster: Cluster) -> None:
    with cluster.store().open(Purpose.RETENTION) as session:
        cluster.nodes[0].faults.append((grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"))
        session.replace_seal(b"another", None)
        assert session.get(SEAL) == b"another"


def test_one_token_does_for_a_backup_and_for_what_is_read_before_it(cluster: Cluster) -> None:
    store = cluster.store(purpose=Purpose.BACKUP)
    store.open(Purpose.READ).close()
    store.open(Purpose.BACKUP).close()
    assert cluster.asked == [(Scope.READ, Scope.APPEND)]
    store.open(Purpose.RETENTION).close()
    assert cluster.asked[1:] == [(Scope.READ, Scope.APPEND, Scope.DELETE)]


def test_only_bodies_that_go_at_the_same_time_need_a_second_connection(cluster: Cluster) -> None:
    store = cluster.store()
    keeper = AccessKeeper(cluster.issue, (Scope.READ,), cluster.clock.pacing().monotonic)
    seen: list[Connection] = []

    def action(connection: Connection, _metadata: Metadata) -> None:
        seen.append(connection)

    def with_others(connection: Connection, metadata: Metadata) -> None:
        action(connection, metadata)
        store.nodes.run(keeper, action)
        for _ in range(2):
            store.nodes.run(keeper, action, is_body=True)

    store.nodes.run(keeper, action)
    store.nodes.run(keeper, with_others, is_body=True)
    store.nodes.run(keeper, action, is_body=True)
    first, second = seen[0], seen[3]
    assert second is not first
    assert seen == [first, first, first, second, second, first]


def test_a_connection_that_failed_is_asked_after_the_other(cluster: Cluster) -> None:
    store = cluster.store()
    keeper = AccessKeeper(cluster.issue, (Scope.READ,), cluster.clock.pacing().monotonic)
    cluster.endpoints[1:] = []
    seen: list[Connection] = []

    def failing(connection: Connection, _metadata: Metadata) -> None:
        seen.append(connection)
        if len(seen) < 4:
            raise Stalled

    store.nodes.run(keeper, failing)
    first, second = seen[:2]
    assert second is not first
    assert seen == [first, second, first, second]
    store.nodes.run(keeper, failing)
    assert seen[4] is second


def test_a_mark_whose_answer_was_lost_is_the_same_mark_and_a_second_one_is_refused(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    with cluster.store().open(Purpose.RETENTION) as session:
        node.faults.append((grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"))
        cluster.nodes[1].marks = node.marks  # in the one database
        cluster.nodes[1].held = "the brake holds the vault"
        assert session.mark() == "the brake holds the vault"
        with pytest.raises(NotSupported):
            session.mark()


def test_what_is_condemned_goes_in_calls_of_one_kind_and_what_stays_comes_with_its_reason(cluster: Cluster) -> None:
    packs = [a_pack(10)[0] for _ in range(1001)]
    index = ObjectName.of(ObjectKind.INDEX, b"index")
    node = cluster.nodes[0]
    node.used = {str(packs[3]), str(packs[1000])}
    with cluster.store().open(Purpose.RETENTION) as session:
        session.mark()
        refusal = Refusal("in use", in_use=True)
        assert session.condemn([index, *packs]) == {packs[3]: refusal, packs[1000]: refusal}
        assert [len(names) for names in node.condemned] == [1, 1000, 1]


def test_a_node_that_names_what_was_not_asked_for_is_not_believed(cluster: Cluster) -> None:
    index = ObjectName.of(ObjectKind.INDEX, b"index")
    cluster.nodes[0].refuses_always = str(a_pack()[0])
    with cluster.store().open(Purpose.RETENTION) as session:
        session.mark()
        with pytest.raises(StoreError, match="names"):
            session.condemn([index])


def test_retention_may_also_store_and_removes_snapshots_alone(cluster: Cluster) -> None:
    snapshot = ObjectName.of(ObjectKind.SNAPSHOT, b"snapshot")
    with cluster.store().open(Purpose.RETENTION) as session:
        assert cluster.asked == [(Scope.READ, Scope.APPEND, Scope.DELETE)]
        session.commit(snapshot, b"snapshot")
        session.remove(snapshot)
        assert cluster.nodes[0].bucket.objects == {}
        with pytest.raises(ObjectMissing):
            session.remove(snapshot)
        with pytest.raises(NotSupported):
            session.remove(a_pack()[0])


def test_a_put_carries_the_packs_of_an_index_file_and_counts_what_it_sends(cluster: Cluster) -> None:
    pack, body = a_pack(FRAME_BYTES + 10)
    with cluster.store().open(Purpose.BACKUP) as session:
        assert session.put(pack, body)
        assert session.sent_bytes == len(body)
        session.put(ObjectName.of(ObjectKind.INDEX, b"index"), b"index", [pack])
    assert list(cluster.nodes[0].headers[1].packs) == [str(pack)]
    assert cluster.nodes[0].headers[0].size == len(body)


def test_bodies_go_to_a_node_that_holds_the_bucket(cluster: Cluster) -> None:
    pack, body = a_pack()
    cluster.nodes[0].homes = (cluster.endpoints[1],)
    with cluster.store().open(Purpose.BACKUP) as session:
        session.put(pack, body)
        assert session.get(pack) == body
    assert cluster.nodes[0].calls == ["Open"]


def test_another_node_is_asked_when_the_one_that_holds_the_bucket_fails_or_is_not_known(cluster: Cluster) -> None:
    pack, body = a_pack()
    for homes, faults in ((cluster.endpoints[1:], [UNAVAILABLE]), (["localhost:1"], [])):
        cluster.nodes[0].homes, cluster.nodes[1].faults = tuple(homes), faults
        with cluster.store().open(Purpose.BACKUP) as session:
            session.put(pack, body)
            session.put(pack, body)
    assert [call for call in cluster.nodes[0].calls if call == "Put"] == 4 * ["Put"]
    assert cluster.clock.slept == []


def test_a_put_that_a_dying_node_cut_goes_to_the_other_node_and_is_counted_twice(cluster: Cluster) -> None:
    cluster.nodes[0].cut_after = FRAME_BYTES
    pack, body = a_pack(3 * FRAME_BYTES)
    with cluster.store().open(Purpose.BACKUP) as session:
        session.put(pack, body)
        assert session.get(pack) == body
        assert len(body) + FRAME_BYTES <= session.sent_bytes <= 2 * len(body)
    assert cluster.nodes[1].bucket.objects[str(pack)] == body
    assert cluster.clock.slept == []  # the other node was asked at once
    assert "Put" in cluster.nodes[1].calls


def test_a_get_that_a_dying_node_cut_goes_on_where_it_was(cluster: Cluster) -> None:
    pack, body = a_pack(500_000)
    with cluster.store().open(Purpose.BACKUP) as session:
        session.put(pack, body)
        cluster.nodes[0].cut_after = 200_000
        assert session.get(pack, 1000, 400_000) == body[1000:401_000]
    resumed = next(call for call in cluster.nodes[1].calls if call.startswith("Get"))
    assert int(resumed.split()[1]) > 1000


def test_a_copy_that_is_wrong_is_asked_of_the_other_node(cluster: Cluster) -> None:
    pack, body = a_pack()
    cluster.nodes[0].spoil = True
    with cluster.store().open(Purpose.BACKUP) as session:
        session.put(pack, body)
        assert session.get(pack) == body


def test_a_copy_that_is_wrong_everywhere_is_damage(cluster: Cluster) -> None:
    pack, body = a_pack()
    for node in cluster.nodes:
        node.spoil = True
    with cluster.store().open(Purpose.BACKUP) as session:
        session.put(pack, body)
        with pytest.raises(DamagedVault, match=r"data/.*its bytes have another SHA-256"):
            session.get(pack)


def test_a_copy_that_is_too_short_everywhere_is_truncated(cluster: Cluster) -> None:
    pack, body = a_pack()
    with cluster.store().open(Purpose.BACKUP) as session:
        session.put(pack, body)
        with pytest.raises(TruncatedObject):
            session.get(pack, 500, 600)


def test_no_node_for_two_minutes_is_the_end(cluster: Cluster) -> None:
    with cluster.store().open(Purpose.BACKUP) as session:
        for node in cluster.nodes:
            node.faults = [UNAVAILABLE] * 1000
        with pytest.raises(StoreError, match="no storage node takes the call") as caught:
            session.put(*a_pack())
    assert caught.value.exit_code == 5
    assert 120 <= cluster.clock.now < 150
    assert max(cluster.clock.slept) <= 10


def test_a_node_that_is_unable_for_a_while_is_waited_for(cluster: Cluster) -> None:
    with cluster.store().open(Purpose.BACKUP) as session:
        for node in cluster.nodes:
            node.faults = [UNAVAILABLE] * 3
        assert session.put(*a_pack())
    assert len(cluster.clock.slept) == 3


RATE_LIMITED = (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")


def test_a_device_that_calls_too_often_waits_as_it_is_told_and_asks_no_other_node(cluster: Cluster) -> None:
    pack, body = a_pack()
    first, second = cluster.nodes
    first.retry = timedelta(seconds=0.5)
    cluster.clock.jitter = 0.25
    with cluster.store().open(Purpose.BACKUP) as session:
        first.faults = [RATE_LIMITED] * 5
        assert session.put(pack, body)
        first.faults = [RATE_LIMITED] * 2
        assert session.get(pack) == body
    # Never sooner than it was told, and by chance longer each time that it is refused again.
    assert cluster.clock.slept == [0.5625, 0.625, 0.75, 0.75, 0.75, 0.5625, 0.625]
    assert second.calls == []


@pytest.mark.parametrize(("told", "slept"), [(timedelta(days=365), 10.0), (timedelta(days=-1), 0.2)])
def test_what_a_node_says_of_when_to_come_again_is_believed_within_bounds(
    cluster: Cluster, told: timedelta, slept: float
) -> None:
    cluster.nodes[0].retry = told
    with cluster.store().open(Purpose.BACKUP) as session:
        cluster.nodes[0].faults = [RATE_LIMITED]
        assert session.put(*a_pack())
    assert cluster.clock.slept == [slept]


def test_a_limit_that_holds_for_two_minutes_is_the_end(cluster: Cluster) -> None:
    cluster.nodes[0].retry = timedelta(seconds=7)
    with cluster.store().open(Purpose.BACKUP) as session:
        cluster.nodes[0].faults = [RATE_LIMITED] * 1000
        with pytest.raises(StoreError, match="too often"):
            session.put(*a_pack())
        assert 120 <= cluster.clock.now < 130


def test_a_refused_token_is_renewed_once(cluster: Cluster) -> None:
    with cluster.store().open(Purpose.BACKUP) as session:
        cluster.nodes[0].bucket.tokens.discard("first")
        assert session.put(*a_pack())
        cluster.nodes[0].bucket.tokens.clear()
        with pytest.raises(StoreError):
            session.put(*a_pack())
        cluster.nodes[0].bucket.tokens.add("good")
    assert cluster.issued[:2] == ["first", "good"]


def test_auth_being_away_while_a_token_ends_is_waited_for(cluster: Cluster) -> None:
    with cluster.store().open(Purpose.BACKUP) as session:
        cluster.nodes[0].bucket.tokens.discard("first")
        cluster.auth_is_down = 3
        assert session.put(*a_pack())
    assert len(cluster.clock.slept) == 3


def test_after_the_node_said_that_a_session_is_over_nothing_more_is_asked(cluster: Cluster) -> None:
    with cluster.store().open(Purpose.BACKUP) as session:
        cluster.nodes[0].bucket.over.add(session.id)
        with pytest.raises(SessionOver):
            session.put(*a_pack())
        calls = len(cluster.nodes[0].calls)
        with pytest.raises(SessionOver):
            session.reserve([a_pack()[0]])
        assert len(cluster.nodes[0].calls) == calls


def test_beats_keep_a_session_and_find_out_that_it_is_over(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.beat_seconds = 1.0
    with cluster.store().open(Purpose.BACKUP) as session:
        assert cluster.nodes[0].beaten.wait(60)
        cluster.nodes[0].bucket.over.add(session.id)
        session._beats.join(60)
        assert not session._beats.is_alive()
        with pytest.raises(SessionOver):
            session.put(*a_pack())
        assert "Put" not in cluster.nodes[0].calls


@pytest.mark.parametrize("purpose", NEEDED_SCOPE)
def test_closing_ends_the_session_once(cluster: Cluster, purpose: Purpose) -> None:
    store = cluster.store()
    session = store.open(purpose)
    session.close()
    session.close()
    if purpose is Purpose.READ:  # it keeps nobody out, so the node is told beside what follows
        store.close()
    assert cluster.nodes[0].calls.count("End") == 1
    with pytest.raises(SessionOver):
        session.get(CONFIG)


def test_closing_when_no_node_is_there_is_no_error(cluster: Cluster) -> None:
    session = cluster.store().open(Purpose.READ)
    for node in cluster.nodes:
        node.faults = [UNAVAILABLE] * 1000
    session.close()


def test_a_first_use_whose_answer_was_lost_is_still_this_device_s(cluster: Cluster) -> None:
    key = ObjectName.of(ObjectKind.KEY, b"key")
    with cluster.store().open(Purpose.BACKUP) as session:
        cluster.nodes[0].faults = [UNAVAILABLE]
        assert session.initialise(key, b"key", b"config", b"")
        assert not session.initialise(key, b"key", b"another config", b"")


def test_lists_go_through_all_pages(cluster: Cluster) -> None:
    packs = sorted(a_pack(10)[0] for _ in range(8))
    with cluster.store().open(Purpose.BACKUP) as session:
        for pack in packs:
            cluster.nodes[0].bucket.objects[str(pack)] = b"0123456789"
        assert [info.name for info in session.list(ObjectKind.PACK)] == packs
        assert list(session.list(ObjectKind.INDEX)) == []


@pytest.mark.parametrize("name", ["data/../../etc/passwd", "data/", f"data/{'AB' * 32}", f"data/{'ab' * 31}\n"])
def test_a_node_that_names_what_is_no_object_is_refused_in_one_line(cluster: Cluster, name: str) -> None:
    with cluster.store().open(Purpose.BACKUP) as session:
        cluster.nodes[0].bucket.objects[name] = b""
        with pytest.raises(StoreError, match="a node names"):
            list(session.list(ObjectKind.PACK))


def test_a_node_that_sends_without_an_end_fills_no_memory(cluster: Cluster) -> None:
    with cluster.store().open(Purpose.BACKUP) as session:
        cluster.nodes[0].bucket.objects[str(CONFIG)] = bytes(8 << 20)
        with pytest.raises(DamagedVault, match="more than"):
            session.get(CONFIG)


def test_reserving_goes_in_thousands(cluster: Cluster) -> None:
    packs = [ObjectName(ObjectKind.PACK, f"{number:064x}") for number in range(2500)]
    with cluster.store().open(Purpose.BACKUP) as session:
        cluster.nodes[0].bucket.objects[str(packs[7])] = b""
        assert session.reserve(packs) == frozenset(packs) - {packs[7]}
    assert cluster.nodes[0].reserved == [1000, 1000, 500]


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", QuotaExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL", StoreFull),
        (grpc.StatusCode.INVALID_ARGUMENT, "NAME_MISMATCH", NameMismatch),
        (grpc.StatusCode.NOT_FOUND, "NOT_FOUND", ObjectMissing),
        (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED", NotSupported),
        (grpc.StatusCode.FAILED_PRECONDITION, "INDEX_NEEDED", StoreError),
        (grpc.StatusCode.DATA_LOSS, "DAMAGED", DamagedVault),
        (grpc.StatusCode.FAILED_PRECONDITION, "SESSION_OVER", SessionOver),
        (grpc.StatusCode.FAILED_PRECONDITION, "SNAPSHOT_IN_USE", SnapshotInUse),
        (grpc.StatusCode.FAILED_PRECONDITION, "HELD", SnapshotHeld),
        (grpc.StatusCode.FAILED_PRECONDITION, "SEAL_CHANGED", SealChanged),
    ],
)
def test_refusals_are_errors_of_the_client(
    cluster: Cluster, code: grpc.StatusCode, reason: str, kind: type[OortError]
) -> None:
    with cluster.store().open(Purpose.BACKUP) as session:
        cluster.nodes[0].faults = [(code, reason)]
        with pytest.raises(kind):
            session.put(*a_pack())


def test_a_damaged_copy_is_asked_of_the_other_node(cluster: Cluster) -> None:
    pack, body = a_pack()
    with cluster.store().open(Purpose.BACKUP) as session:
        session.put(pack, body)
        cluster.nodes[0].faults = [(grpc.StatusCode.DATA_LOSS, "DAMAGED")]
        assert session.get(pack) == body


def test_a_server_that_breaks_on_a_call_is_asked_a_few_times_only(cluster: Cluster) -> None:
    with cluster.store().open(Purpose.BACKUP) as session:
        for node in cluster.nodes:
            node.faults = [(grpc.StatusCode.INTERNAL, "INTERNAL")] * 10
        with pytest.raises(StoreError):
            session.put(*a_pack())
    puts = [call for node in cluster.nodes for call in node.calls if call == "Put"]
    assert len(puts) == 3


def test_a_node_of_another_installation_is_not_trusted(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    patient_probes(monkeypatch)
    with pytest.raises(UntrustedServer):
        cluster.store(ca_pem=an_authority("another CA").ca).open(Purpose.READ)


def test_a_stream_that_stands_still_is_given_up_and_goes_to_the_other_node(cluster: Cluster) -> None:
    cluster.nodes[0].hang = True
    # Real time: what is watched is a real stream. On a busy machine the other node may need more, and is asked again.
    store = cluster.store(stall_seconds=1.0, pacing=Pacing(120.0, jitter=lambda: 0.0))
    pack, body = a_pack(4 * FRAME_BYTES)
    with store.open(Purpose.BACKUP) as session:
        session.put(pack, body)
    cluster.nodes[0].released.set()
    assert "Put" in cluster.nodes[1].calls
    assert cluster.nodes[1].bucket.objects[str(pack)] == body


def test_closing_the_session_wakes_whoever_waits_for_a_silent_node(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.hang = True
    failures: list[BaseException] = []
    session = cluster.store().open(Purpose.BACKUP)

    def put() -> None:
        try:
            session.put(*a_pack(64 * FRAME_BYTES))
        except BaseException as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    threads = [threading.Thread(target=put) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert cluster.nodes[0].hanging.wait(60)
    session.close()
    for thread in threads:
        thread.join(60)
    assert [type(failure) for failure in failures] == [SessionOver] * 3
    for node in cluster.nodes:
        node.released.set()


def test_many_threads_share_a_session(cluster: Cluster) -> None:
    failures: list[BaseException] = []

    def work(session_put: Callable[[ObjectName, bytes], bool]) -> None:
        try:
            for _ in range(5):
                session_put(*a_pack(50_000))
        except BaseException as error:  # noqa: BLE001 - told by the test below
            failures.append(error)

    with cluster.store().open(Purpose.BACKUP) as session:
        threads = [threading.Thread(target=work, args=(session.put,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert session.sent_bytes == 6 * 5 * 50_000
