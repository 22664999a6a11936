"""Which node is asked, what is asked of another one, and how long they are waited for."""

import threading
from datetime import timedelta

import grpc
import pytest

from client.errors import (
    DamagedVault,
    SessionOver,
    StoreError,
    TruncatedObject,
    UntrustedServer,
)
from client.rpc import Metadata, Pacing
from client.stores.node.access import AccessKeeper
from client.stores.node.stalls import Stalled
from client.stores.node.tests.a_cluster import UNAVAILABLE, Cluster, a_pack
from client.stores.node.wire import FRAME_BYTES, Connection
from client.tests.servers import patient_probes
from client.tests.tls import an_authority
from domain.sessions import Purpose, Scope


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
