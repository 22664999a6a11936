"""Prune on a store of the net, where others may have copied things about."""

from client.reachability.tests.a_history import History
from client.stores.cloud import CloudStore, Location
from client.stores.cloud.session import CloudSession
from domain.names import ObjectKind
from domain.sessions import Purpose


def test_a_stray_copy_of_a_pack_does_not_make_prune_remove_the_pack(s3_bucket: str) -> None:
    store = CloudStore(Location.of_s3(f"{s3_bucket}/vault").opened_by("key", "secret"))
    history = History(store)
    history.backup({"a": range(3)})
    packs = history.names(ObjectKind.PACK)
    with store.open(Purpose.RETENTION) as session:
        assert isinstance(session, CloudSession)
        for pack in packs:
            body = session.get(pack)
            for folder in ("00", "ff"):
                path = f"data/{folder}/{pack.id}"
                if path != pack.path:
                    session.run(lambda operator, path=path, body=body: operator.write(path, body))  # type: ignore[misc]
    history.prune()
    assert history.names(ObjectKind.PACK) == packs
    assert history.is_whole()
    store.close()
