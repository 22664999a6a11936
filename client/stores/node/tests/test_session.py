import threading
from collections.abc import Callable
from uuid import UUID

import grpc
import pytest

from client.errors import (
    AppendOnly,
    DamagedVault,
    NameMismatch,
    NotSupported,
    ObjectMissing,
    OortError,
    QuotaExceeded,
    SealChanged,
    SessionOver,
    SnapshotHeld,
    SnapshotInUse,
    StoreError,
    StoreFull,
)
from client.stores.abc import Refusal
from client.stores.node.tests.a_cluster import BUCKET, UNAVAILABLE, Cluster, a_pack
from client.stores.node.wire import FRAME_BYTES
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import NEEDED_SCOPE, Purpose, Scope, opening_statement


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
