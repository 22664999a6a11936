"""Each of the sixteen cases has tests that say its number, and docs/sessions.md names the files that they are in."""

import re
from collections import defaultdict
from pathlib import Path

from services.storage.tests.model.cases import CASES

_ROOT = Path(__file__).parents[4]
_MARK = re.compile(r"mark\.case\(number=(\w+)\)(?: for number in \(([\d, ]+)\))?")
_ROW = re.compile(r"^\| (\d+) \| .* \| (.*) \|$", re.MULTILINE)


def said_by_tests() -> dict[int, set[str]]:
    """Of each case the names of the files whose tests have its mark."""
    found: dict[int, set[str]] = defaultdict(set)
    for folder in ("client", "deploy", "services"):
        for path in (_ROOT / folder).rglob("tests/**/*.py"):
            for number, several in _MARK.findall(path.read_text()):
                for one in several.split(",") if several else [number] if number.isdigit() else []:
                    found[int(one)].add(path.name)
    for case in CASES:
        for number in (*case.numbers, 15):
            found[number].add("test_search.py")
    return found


def said_by_the_docs() -> dict[int, set[str]]:
    table = (_ROOT / "docs/sessions.md").read_text().split("\n| | case |")[1]
    return {int(number): set(re.findall(r"`(\w+\.py)`", shown)) for number, shown in _ROW.findall(table)}


def test_every_case_has_tests_that_say_its_number_and_the_docs_name_them() -> None:
    assert set(said_by_tests()) == set(range(1, 17))
    assert said_by_the_docs() == said_by_tests()
