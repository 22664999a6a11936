import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import page
from bench.chart import draw
from bench.measure import NotMeasured
from bench.results import FIRST, Report
from bench.targets import verdicts
from bench.tests.a_report import a_report


def test_a_ratio_is_the_median_of_those_within_each_round() -> None:
    # The second round met a slow machine, which says nothing of either program.
    report = a_report(
        {"oort-1": 4, "oort-2": 8, "restic-rest": 10},
        {"oort-1": 20, "oort-2": 40, "restic-rest": 40},
        {"oort-1": 5, "oort-2": 9, "restic-rest": 10},
    )
    comparison = report.comparisons[0]
    assert comparison.ratio("oort-1", "restic-rest", FIRST) == 0.5
    assert comparison.ratio("oort-1", "borg", FIRST) is None
    assert [result.runs[FIRST].seconds for result in comparison.results] == [5, 9, 10]


def test_one_copy_is_judged_and_two_stand_beside() -> None:
    report = a_report({"oort-1": 5, "oort-2": 9, "restic-rest": 10})
    first = next(found for found in verdicts(report.comparisons) if found.target.figure == FIRST)
    assert (first.ratio, first.beside, first.reached) == (0.5, 0.9, True)
    slower = a_report({"oort-1": 5.1, "oort-2": 3, "restic-rest": 10})
    assert not next(found for found in verdicts(slower.comparisons) if found.target.figure == FIRST).reached


def test_nothing_is_judged_without_restics_server() -> None:
    assert not list(verdicts(a_report({"oort-1": 1, "oort-2": 1, "restic-local": 2}).comparisons))


def test_figures_come_back_from_json_as_they_were(tmp_path: Path) -> None:
    report = a_report({"oort-1": 5, "oort-2": 9, "restic-rest": 10})
    report.save(tmp_path / "figures.json")
    assert Report.from_json(json.loads((tmp_path / "figures.json").read_text())) == report


def test_datasets_of_several_runs_stand_on_one_page(tmp_path: Path) -> None:
    (tmp_path / page.PAGE).write_text(page.BEGIN + page.END)
    a_report(*[{"oort-1": 6.0, "oort-2": 9.0, "restic-rest": 10.0}] * 3).save(tmp_path / "image.json")
    a_report({"oort-1": 7, "oort-2": 9, "restic-rest": 10}, dataset="small").save(tmp_path / "small.json")
    page.write(tmp_path, [tmp_path / "image.json", tmp_path / "small.json"])
    written = (tmp_path / page.PAGE).read_text()
    assert "medians of 3 rounds of image, one round of small" in written
    assert "| image, first backup | 0.5 | 0.60 |" in written
    assert "| small files, first backup | 0.5 | 0.70 |" in written
    a_report({"oort-1": 7, "oort-2": 9, "restic-rest": 10}, scale=0.5).save(tmp_path / "half.json")
    with pytest.raises(NotMeasured, match="two sizes"):
        page.write(tmp_path, [tmp_path / "image.json", tmp_path / "half.json"])


def test_the_page_keeps_what_stands_around_the_figures(tmp_path: Path) -> None:
    before, after = "# Benchmarks\n\n", "\n\nThe end.\n"
    (tmp_path / page.PAGE).write_text(before + page.BEGIN + "\nold figures\n" + page.END + after)
    a_report({"oort-1": 6, "oort-2": 9, "restic-rest": 10}).save(tmp_path / "figures.json")
    page.write(tmp_path, [tmp_path / "figures.json"])
    written = (tmp_path / page.PAGE).read_text()
    assert written.startswith(before)
    assert written.endswith(after)
    assert "old figures" not in written
    assert "| image, first backup | 0.5 | 0.60 | **not reached** | 0.90 |" in written
    assert "borg is not installed" in written
    page.write(tmp_path, [tmp_path / "figures.json"])
    assert (tmp_path / page.PAGE).read_text() == written


def test_the_chart_is_well_formed_and_has_a_bar_for_each_figure() -> None:
    everyone = {"oort-1": 30.0, "oort-2": 9.0, "restic-rest": 10.0, "restic-local": 8.0, "borg": 12.0}
    chart = ET.fromstring(draw(a_report(everyone)))  # noqa: S314 - our own
    bars = [each for each in chart.iter("{http://www.w3.org/2000/svg}rect") if each.get("height") == "13"]
    assert len(bars) == 3 * len(everyone)
    assert len({each.get("width") for each in bars if each.get("fill") == "#1d5fd1"}) == 1, "all are cut at the end"


@pytest.mark.parametrize("text", ["{}", '{"kind": "shopping"}'])
def test_what_holds_no_figures_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / page.PAGE).write_text(page.BEGIN + page.END)
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(NotMeasured, match=r"list\.json"):
        page.write(tmp_path, [tmp_path / "list.json"])
