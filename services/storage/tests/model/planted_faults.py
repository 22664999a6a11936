"""`make planted-faults`: takes each rule away in turn and passes if the suite finds every one of them.

Not collected by `make test`, whose tests show that nothing is found where no rule was taken away. A search begins with
the fault's trace, or gets one more switch until it finds the fault; where calls meet, it is the pairs of `make test`.
"""

import sys
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import pytest

from services.common.provision import DatabaseUrls
from services.storage.tests.model.ahead import Ahead
from services.storage.tests.model.cases import CASES, search
from services.storage.tests.model.faults import FAULTS, Fault
from services.storage.tests.model.search import Found
from services.storage.tests.model.test_transactions import PAIRS, NotOneStep, meet
from services.storage.tests.model.world import Node, two_nodes

# Where the search for a fault is given up.
_SWITCHES, _LIMIT = 4, 20_000
pytestmark = pytest.mark.case(number=16)


@pytest.fixture(scope="module")
def urls(a_database: Callable[[str], DatabaseUrls]) -> DatabaseUrls:
    return a_database("storage")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[dict[str, Node]]:
    with two_nodes(tmp_path) as opened:
        yield opened


def tell(capsys: pytest.CaptureFixture[str], fault: Fault, finder: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{fault}\n  found by {finder}\n")


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.case], ids=str)
async def test_a_rule_that_is_taken_away_is_missed(
    urls: DatabaseUrls, nodes: dict[str, Node], fault: Fault, capsys: pytest.CaptureFixture[str]
) -> None:
    [case] = [case for case in CASES if case.name == fault.case]
    # As few switches as find it: what is found is then told in a short trace.
    for switches in (inf,) if fault.trace else range(_SWITCHES + 1):
        try:
            await search(case, urls, nodes, fault, switches=switches, limit=_LIMIT)
        except Found as found:
            *steps, lost = str(found).splitlines()
            how = f"{switches} switches, in a trace of {len(steps)} steps {lost[:150]}"
            tell(capsys, fault, f"the search of '{case.name}' with {how}")
            return
    pytest.fail(f"{_SWITCHES} switches do not find it")


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if not fault.case], ids=str)
def test_a_call_that_is_not_one_step_is_missed(
    urls: DatabaseUrls,
    tmp_path: Path,
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault.patch(monkeypatch, Ahead())
    with pytest.raises(NotOneStep) as found:
        meet(urls, tmp_path, PAIRS)
    tell(capsys, fault, str(found.value).splitlines()[0])
