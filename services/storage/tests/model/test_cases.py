"""Each of the sixteen cases has tests that say its number, each rule has faults, and docs/sessions.md names them."""

import re
from collections import defaultdict
from pathlib import Path

from services.storage.tests.model.cases import CASES
from services.storage.tests.model.faults import FAULTS

_ROOT = Path(__file__).parents[4]
_MARK = re.compile(r"mark\.case\(number=(\w+)\)(?: for number in \(([\d, ]+)\))?")
_ROW = re.compile(r"^\| (\d+) \| .* \| (.*) \|$", re.MULTILINE)
_RULE = re.compile(r"^\| (\d+) \| (.*) \| .* \|$", re.MULTILINE)


def said_by_tests() -> dict[int, set[str]]:
    """Of each case the names of the files whose tests have its mark."""
    found: dict[int, set[str]] = defaultdict(set)
    for folder in ("client", "deploy", "services"):
        for path in (_ROOT / folder).rglob("tests/**/*.py"):
            for number, several in _MARK.findall(path.read_text()):
                for one in several.split(",") if several else [number] if number.isdigit() else []:
                    found[int(one)].add(path.name)
    for case in CASES:
        for number in case.numbers:
            found[number].add("test_search.py")
    return found


def said_by_the_docs() -> dict[int, set[str]]:
    table = _docs().split("\n| | case |")[1]
    return {int(number): set(re.findall(r"`(\w+\.py)`", shown)) for number, shown in _ROW.findall(table)}


def _docs() -> str:
    return (_ROOT / "docs/sessions.md").read_text()


def test_every_case_has_tests_that_say_its_number_and_the_docs_name_them() -> None:
    assert set(said_by_tests()) == set(range(1, 17))
    assert said_by_the_docs() == said_by_tests()


def test_every_rule_is_taken_away_and_the_docs_say_how() -> None:
    table = _docs().split("\n| rule |")[1].split("\n\n")[0]
    told = {int(rule): set(faults.split("; ")) for rule, faults in _RULE.findall(table)}
    assert told == {rule: {fault.name for fault in FAULTS if fault.rule == rule} for rule in range(1, 13)}
