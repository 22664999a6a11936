"""`make planted-faults`: takes each rule away in turn and passes if the suite finds every one of them.

Not collected by `make test`, whose tests show that nothing is found where no rule was taken away. A fault that cannot
be searched, because it lies in the lock itself, is left to the tests of two connections.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.common.provision import DatabaseUrls
from services.storage.store import buckets
from services.storage.tests import test_session_order
from services.storage.tests.cluster import Cluster
from services.storage.tests.model.cases import CASES, search
from services.storage.tests.model.faults import FAULTS, Fault
from services.storage.tests.model.search import Found
from services.storage.tests.model.world import Node, two_nodes

# Every fault is found long before; one that is not ends here.
_LIMIT = 3000


@pytest.fixture(scope="module")
def urls(a_database: Callable[[str], DatabaseUrls]) -> DatabaseUrls:
    return a_database("storage")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[dict[str, Node]]:
    with two_nodes(tmp_path) as opened:
        yield opened


def tell(capsys: pytest.CaptureFixture[str], fault: object, finder: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{fault}\n  found by {finder}\n")


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_a_rule_that_is_taken_away_is_missed(
    urls: DatabaseUrls, nodes: dict[str, Node], fault: Fault, capsys: pytest.CaptureFixture[str]
) -> None:
    [case] = [case for case in CASES if case.name == fault.case]
    with pytest.raises(Found) as found:
        await search(case, urls, nodes, fault, limit=_LIMIT)
    *steps, lost = str(found.value).splitlines()
    tell(capsys, fault, f"the search of '{case.name}' in a trace of {len(steps)} steps {lost[:150]}")


async def test_a_lock_that_is_left_out_is_missed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(buckets, "lock", buckets.peek)
    case = test_session_order.test_a_reserve_that_waits_for_a_condemnation_revives_what_it_condemned
    with pytest.raises(AssertionError, match="condemned"):
        await case(cluster)
    tell(capsys, "rule 1: the bucket's row is not locked", case.__name__)
