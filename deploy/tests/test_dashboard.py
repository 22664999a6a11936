"""deploy/dashboards/oort.json asks Prometheus for what the roles export."""

import json
import re
from pathlib import Path
from typing import Any

from deploy.driver import Operator
from deploy.tests.metrics import metrics

_BOARD = Path(__file__).parents[1] / "dashboards" / "oort.json"
_GUIDE = Path(__file__).parents[2] / "docs" / "operator-guide.md"
_ROLES = ("license", "auth", "storage", "cluster", "branding")
_metric_names = re.compile(r"\b(?:oort|process)_\w+").findall
_types = re.compile(r"^# TYPE (\w+) (\w+)$", re.MULTILINE).findall


def panels() -> list[dict[str, Any]]:
    board = json.loads(_BOARD.read_text())
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def exported(text: str) -> set[str]:
    """The names of the series in it, also of those that have no value yet."""
    found = set()
    for name, kind in _types(text):
        found |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return found


def test_every_metric_that_it_shows_is_one_that_a_role_exports(stack: Operator) -> None:
    shown = {name for panel in panels() for target in panel["targets"] for name in _metric_names(target["expr"])}
    assert len(shown) > 15
    assert not shown - exported("".join(metrics(stack, role) for role in _ROLES))


def test_the_operators_guide_has_every_metric_of_ours_and_no_other(stack: Operator) -> None:
    series = {name for role in _ROLES for name in exported(metrics(stack, role)) if name.startswith("oort_")}
    told = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in series}
    ours = {name for name in told if not name.endswith("_created")}
    table = _GUIDE.read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]
    assert ours == set(re.findall(r"`(oort_\w+)`", table))


def test_a_time_is_not_shown_as_a_duration() -> None:
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    times = [expression for expression in shown if "_timestamp_seconds" in expression]
    assert times
    assert all(expression.startswith("time() - ") for expression in times)


def test_a_panel_asks_the_data_source_that_is_chosen_and_says_what_it_shows() -> None:
    board = json.loads(_BOARD.read_text())
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])} == {
            "${datasource}"
        }
        assert panel["title"]
        assert panel["type"] != "timeseries" or all(target["legendFormat"] for target in panel["targets"])
        assert all(_metric_names(target["expr"]) for target in panel["targets"])


def test_no_panel_covers_another_one() -> None:
    covered: set[tuple[int, int]] = set()
    for panel in json.loads(_BOARD.read_text())["panels"]:
        place = panel["gridPos"]
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        assert columns.stop <= 24
        cells = {(column, row) for column in columns for row in rows}
        assert not cells & covered
        covered |= cells
