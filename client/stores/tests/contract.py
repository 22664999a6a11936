"""What every store must keep (client/stores/abc.py), as tests.

A store's own test module says `class TestMyStore(StoreContract)` and gives a fixture `store`: an empty ObjectStore.
"""

import os
import threading
from collections.abc import Iterator

import pytest

from client.errors import (
    NameMismatch,
    NotSupported,
    ObjectMissing,
    ParentGone,
    SealChanged,
    SessionOver,
    SnapshotInUse,
    TruncatedObject,
)
from client.stores.abc import ObjectStore, StoreSession
from domain.names import CONFIG, SEAL, ObjectKind, ObjectName
from domain.sessions import Purpose

KEY_BODY = b'{"kdf":"scrypt"}'
KEY = ObjectName.of(ObjectKind.KEY, KEY_BODY)


def a_pack(size: int = 1000) -> tuple[ObjectName, bytes]:
    body = os.urandom(size)
    return ObjectName.of(ObjectKind.PACK, body), body


SNAPSHOT = ObjectName.of(ObjectKind.SNAPSHOT, b"snapshot")
INDEX = ObjectName.of(ObjectKind.INDEX, b"index")
REWRITTEN = ObjectName.of(ObjectKind.INDEX, b"rewritten")
CHANGED = ObjectName.of(ObjectKind.SNAPSHOT, b"changed")


def initialised(session: StoreSession) -> StoreSession:
    assert session.initialise(KEY, KEY_BODY, b"config", b"seal")
    return session


class StoreContract:
    condemned_at_once = 2500  # more than one call takes

    @pytest.fixture
    def store(self) -> Iterator[ObjectStore]:
        raise AssertionError("the test class of a store gives this fixture")

    @pytest.fixture
    def session(self, store: ObjectStore) -> Iterator[StoreSession]:
        with store.open(Purpose.BACKUP) as session:
            yield initialised(session)

    def test_an_empty_store_has_no_config_and_lists_nothing(self, store: ObjectStore) -> None:
        with store.open(Purpose.BACKUP) as session:
            for kind in (ObjectKind.KEY, ObjectKind.PACK, ObjectKind.INDEX, ObjectKind.SNAPSHOT):
                assert list(session.list(kind)) == []
            with pytest.raises(ObjectMissing):
                session.get(CONFIG)

    def test_first_use_stores_key_config_and_seal(self, session: StoreSession) -> None:
        assert session.get(KEY) == KEY_BODY
        assert session.get(CONFIG) == b"config"
        assert session.get(SEAL) == b"seal"
        assert [info.name for info in session.list(ObjectKind.KEY)] == [KEY]

    def test_first_use_happens_once(self, session: StoreSession, store: ObjectStore) -> None:
        other = ObjectName.of(ObjectKind.KEY, b"other")
        with store.open(Purpose.BACKUP) as second:
            assert not second.initialise(other, b"other", b"other config", b"other seal")
        assert session.get(CONFIG) == b"config"
        assert session.get(SEAL) == b"seal"
        assert [info.name for info in session.list(ObjectKind.KEY)] == [KEY]

    def test_of_two_first_uses_at_once_one_wins(self, store: ObjectStore) -> None:
        results: list[tuple[bool, bytes]] = []
        ready = threading.Barrier(4)

        def use(number: int) -> None:
            body = b"key %d" % number
            with store.open(Purpose.BACKUP) as session:
                ready.wait()
                name = ObjectName.of(ObjectKind.KEY, body)
                results.append((session.initialise(name, body, b"config %d" % number, b"seal %d" % number), body))

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [body for won, body in results if won]
        with store.open(Purpose.READ) as session:
            assert session.get(CONFIG) == winner.replace(b"key", b"config")
            assert session.get(SEAL) == winner.replace(b"key", b"seal")
            assert [session.get(info.name) for info in session.list(ObjectKind.KEY)] == [winner]

    @pytest.mark.parametrize("size", [1, 1000, 300_000, 5 << 20])
    def test_what_was_put_is_got(self, session: StoreSession, size: int) -> None:
        name, body = a_pack(size)
        assert session.put(name, body)
        assert session.get(name) == body

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_any_buffer_can_be_put(self, session: StoreSession, kind: type) -> None:
        name, body = a_pack()
        assert session.put(name, kind(body))
        assert session.get(name) == body

    def test_a_second_put_stores_nothing(self, session: StoreSession) -> None:
        name, body = a_pack()
        assert session.put(name, body)
        assert not session.put(name, body)
        assert session.get(name) == body

    def test_a_put_whose_body_has_another_hash_is_refused(self, session: StoreSession) -> None:
        name, body = a_pack()
        with pytest.raises(NameMismatch):
            session.put(name, body + b"x")
        with pytest.raises(ObjectMissing):
            session.get(name)
        assert list(session.list(ObjectKind.PACK)) == []

    def test_a_part_is_got_by_offset_and_length(self, session: StoreSession) -> None:
        name, body = a_pack(100_000)
        session.put(name, body)
        assert session.get(name, 10, 20) == body[10:30]
        assert session.get(name, 99_990) == body[99_990:]
        assert session.get(name, 0, 0) == b""

    def test_a_part_need_not_have_the_hash_of_the_whole(self, session: StoreSession) -> None:
        name, body = a_pack()
        session.put(name, body)
        assert session.get(name, 0, len(body) - 1) == body[:-1]
        assert session.get(name, 1) == body[1:]

    def test_a_part_beyond_the_end_is_truncated(self, session: StoreSession) -> None:
        name, body = a_pack(100)
        session.put(name, body)
        with pytest.raises(TruncatedObject):
            session.get(name, 90, 20)

    def test_what_is_missing_is_said_to_be_missing(self, session: StoreSession) -> None:
        with pytest.raises(ObjectMissing):
            session.get(a_pack()[0])
        with pytest.raises(ObjectMissing):
            session.get(a_pack()[0], 0, 10)

    def test_lists_are_by_name_and_of_one_kind(self, session: StoreSession) -> None:
        packs = dict(a_pack(10 + number) for number in range(20))
        for name, body in packs.items():
            session.put(name, body)
        session.put(ObjectName.of(ObjectKind.INDEX, b"index"), b"index")
        listed = list(session.list(ObjectKind.PACK))
        assert [info.name for info in listed] == sorted(packs)
        assert {info.name: info.size for info in listed} == {name: len(body) for name, body in packs.items()}
        assert [info.size for info in session.list(ObjectKind.INDEX)] == [5]

    def test_reserving_answers_what_is_gone(self, session: StoreSession) -> None:
        (there, body), (gone, _) = a_pack(), a_pack()
        session.put(there, body)
        assert session.reserve([there, gone]) == {gone}
        assert session.reserve([]) == frozenset()

    def test_a_committed_snapshot_is_listed_and_can_be_a_parent(
        self, session: StoreSession, store: ObjectStore
    ) -> None:
        snapshot = ObjectName.of(ObjectKind.SNAPSHOT, b"snapshot")
        session.commit(snapshot, b"snapshot")
        session.close()
        with store.open(Purpose.BACKUP, parent=snapshot) as second:
            assert [info.name for info in second.list(ObjectKind.SNAPSHOT)] == [snapshot]
            assert second.get(snapshot) == b"snapshot"

    def test_a_parent_that_is_gone_is_refused(self, session: StoreSession, store: ObjectStore) -> None:
        assert list(session.list(ObjectKind.SNAPSHOT)) == []
        with pytest.raises(ParentGone):
            store.open(Purpose.BACKUP, parent=ObjectName.of(ObjectKind.SNAPSHOT, b"gone"))

    def test_another_session_sees_what_was_put(self, session: StoreSession, store: ObjectStore) -> None:
        name, body = a_pack()
        session.put(name, body)
        with store.open(Purpose.READ) as reader:
            assert reader.get(name) == body

    def test_nothing_goes_through_a_closed_session(self, session: StoreSession) -> None:
        name, body = a_pack()
        session.put(name, body)
        session.close()
        with pytest.raises(SessionOver):
            session.get(name)
        with pytest.raises(SessionOver):
            session.put(*a_pack())
        with pytest.raises(SessionOver):
            list(session.list(ObjectKind.PACK))

    def test_closing_twice_is_closing_once(self, session: StoreSession) -> None:
        session.close()
        session.close()

    def test_many_threads_put_and_get_at_once(self, session: StoreSession) -> None:
        shared = a_pack(50_000)
        failures: list[BaseException] = []

        def work() -> None:
            try:
                for name, body in [shared, *(a_pack(20_000) for _ in range(5))]:
                    session.put(name, body)
                    assert session.get(name) == body
            except BaseException as error:  # noqa: BLE001 - told by the test below
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert sum(1 for _ in session.list(ObjectKind.PACK)) == 31

    def test_an_object_is_removed_or_the_store_says_that_it_does_not(self, session: StoreSession) -> None:
        name, body = a_pack()
        session.put(name, body)
        try:
            session.remove(name)
        except NotSupported:
            assert session.get(name) == body
        else:
            with pytest.raises(ObjectMissing):
                session.get(name)
            with pytest.raises(ObjectMissing):
                session.remove(name)

    def test_what_retention_removes_is_not_seen_by_sessions_opened_afterwards(
        self, session: StoreSession, store: ObjectStore
    ) -> None:
        session.commit(SNAPSHOT, b"snapshot")
        session.close()
        with store.open(Purpose.READ) as before, store.open(Purpose.RETENTION) as retention:
            retention.commit(CHANGED, b"changed")
            retention.remove(SNAPSHOT)
            with store.open(Purpose.READ) as after:
                assert [info.name for info in after.list(ObjectKind.SNAPSHOT)] == [CHANGED]
                with pytest.raises(ObjectMissing):
                    after.get(SNAPSHOT)
            if not store.needs_locks:  # else its user's lock would have kept the other away
                assert before.get(SNAPSHOT) == b"snapshot"
            with pytest.raises(ParentGone):
                store.open(Purpose.BACKUP, parent=SNAPSHOT)
        with store.open(Purpose.RETENTION) as retention, pytest.raises(ObjectMissing):
            retention.remove(SNAPSHOT)

    def test_a_snapshot_that_a_running_backup_builds_on_stays(self, session: StoreSession, store: ObjectStore) -> None:
        session.commit(SNAPSHOT, b"snapshot")
        if store.needs_locks:
            return  # there the backup's lock keeps retention away
        with store.open(Purpose.BACKUP, parent=SNAPSHOT), store.open(Purpose.RETENTION) as retention:
            with pytest.raises(SnapshotInUse):
                retention.remove(SNAPSHOT)
            with store.open(Purpose.READ) as after:
                assert after.get(SNAPSHOT) == b"snapshot"
        with store.open(Purpose.RETENTION) as retention:
            retention.remove(SNAPSHOT)

    def test_only_retention_removes_where_sessions_are_kept_apart(
        self, session: StoreSession, store: ObjectStore
    ) -> None:
        session.commit(SNAPSHOT, b"snapshot")
        if store.needs_locks:
            return
        with pytest.raises(NotSupported):
            session.remove(SNAPSHOT)
        assert session.get(SNAPSHOT) == b"snapshot"

    def test_retention_replaces_the_seal_for_every_session(self, session: StoreSession, store: ObjectStore) -> None:
        former = session.get(SEAL)
        if not store.needs_locks:
            with pytest.raises(NotSupported):
                session.replace_seal(b"LAES", former)
        with store.open(Purpose.READ) as before, store.open(Purpose.RETENTION) as retention:
            for seal in (b"LAES", b"a longer one" * 100, b"LAES"):
                for _ in range(2):  # again, as after a lost answer
                    retention.replace_seal(seal, former)
                for reader in (retention, before, session):
                    assert reader.get(SEAL) == seal
                former = seal
        session.close()
        with store.open(Purpose.READ) as after:
            assert after.get(SEAL) == b"LAES"

    def test_a_vault_without_a_seal_gets_one(self, store: ObjectStore) -> None:
        with store.open(Purpose.BACKUP) as session:
            assert session.initialise(KEY, KEY_BODY, b"config", b"")
            with pytest.raises(SealChanged):
                session.replace_seal(b"seal", b"another")
            session.replace_seal(b"seal", None)
            assert session.get(SEAL) == b"seal"

    def test_who_has_read_another_seal_than_there_is_replaces_none(
        self, session: StoreSession, store: ObjectStore
    ) -> None:
        first = session.get(SEAL)
        with store.open(Purpose.RETENTION) as retention:
            retention.replace_seal(b"second", first)
        with store.open(Purpose.RETENTION) as retention:
            for read in (first, None):
                with pytest.raises(SealChanged, match="run the command again"):
                    retention.replace_seal(b"third", read)
            assert retention.get(SEAL) == b"second"
            retention.replace_seal(b"third", b"second")

    def test_what_nobody_uses_is_condemned_after_the_mark(self, session: StoreSession, store: ObjectStore) -> None:
        (old, old_body), (new, new_body) = a_pack(), a_pack()
        session.put(old, old_body)
        session.put(INDEX, b"index", [old])
        session.close()
        with store.open(Purpose.READ) as before, store.open(Purpose.RETENTION) as retention:
            retention.mark()
            retention.put(new, new_body)
            retention.put(REWRITTEN, b"rewritten", [new])
            assert retention.condemn([INDEX]) == {}
            assert retention.condemn([old]) == {}
            assert retention.condemn([old, a_pack()[0]]) == {}
            assert retention.condemn([]) == {}
            for reader in (retention, store.open(Purpose.READ)):
                assert [info.name for info in reader.list(ObjectKind.PACK)] == [new]
                assert [info.name for info in reader.list(ObjectKind.INDEX)] == [REWRITTEN]
                with pytest.raises(ObjectMissing):
                    reader.get(old)
                reader.close()
            if not store.needs_locks:  # else its user's lock would have kept the other away
                assert before.get(old) == old_body
                assert [info.name for info in before.list(ObjectKind.INDEX)] == sorted((INDEX, REWRITTEN))

    def test_more_objects_than_one_call_takes_are_condemned(self, session: StoreSession, store: ObjectStore) -> None:
        session.close()
        with store.open(Purpose.RETENTION) as retention:
            retention.mark()
            assert retention.condemn([a_pack(10)[0] for _ in range(self.condemned_at_once)]) == {}

    def test_what_a_session_uses_that_was_open_at_the_mark_stays(
        self, session: StoreSession, store: ObjectStore
    ) -> None:
        if store.needs_locks:
            return  # there the session's lock keeps retention away
        (reserved, body), (made, made_body) = a_pack(), a_pack()
        session.put(reserved, body)
        session.close()
        user = store.open(Purpose.BACKUP)
        assert user.reserve([reserved]) == frozenset()
        with store.open(Purpose.RETENTION) as retention:
            retention.mark()
            user.put(made, made_body)
            assert set(retention.condemn([reserved, made])) == {reserved, made}
            user.close()
            stays = retention.condemn([reserved, made])
            assert set(stays) == {reserved, made}
            assert all(refusal.reason and refusal.in_use for refusal in stays.values())
            assert retention.get(made) == made_body
        with store.open(Purpose.RETENTION) as retention:
            retention.mark()
            assert retention.condemn([reserved, made]) == {}

    def test_a_reserved_pack_lives_again(self, session: StoreSession, store: ObjectStore) -> None:
        if store.needs_locks:
            return
        name, body = a_pack()
        session.put(name, body)
        session.close()
        with store.open(Purpose.RETENTION) as retention:
            retention.mark()
            assert retention.condemn([name]) == {}
            with store.open(Purpose.BACKUP) as user:
                assert user.reserve([name]) == frozenset()
                assert user.get(name) == body
            assert set(retention.condemn([name])) == {name}

    def test_a_mark_is_drawn_once_and_by_retention_alone(self, session: StoreSession, store: ObjectStore) -> None:
        name, body = a_pack()
        session.put(name, body)
        session.put(INDEX, b"index", [name])
        session.close()
        if store.needs_locks:
            return
        with store.open(Purpose.BACKUP) as backup:
            with pytest.raises(NotSupported):
                backup.mark()
            with pytest.raises(NotSupported):
                backup.condemn([name])
        with store.open(Purpose.RETENTION) as retention:
            with pytest.raises(NotSupported):
                retention.condemn([name])
            retention.mark()
            with pytest.raises(NotSupported):
                retention.mark()
            assert retention.get(name) == body
