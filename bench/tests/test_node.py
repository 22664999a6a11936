import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from bench import page
from bench.measure import NotMeasured
from bench.node.bodies import FRAME, Bodies
from bench.node.figures import GETS, PUTS, NodeFigures, Phase


def test_each_body_has_its_own_hash_and_comes_back_in_any_pieces() -> None:
    bodies = Bodies(2 * FRAME + 100)
    one, other = bodies.make(), bodies.make()
    sent = b"".join(bodies.frames(one))
    assert (len(sent), sha256(sent).hexdigest()) == (bodies.size, one.id)
    assert one.id != other.id
    returned = bodies.returned(one)
    for start in range(0, len(sent), 99_991):
        returned.take(memoryview(sent)[start : start + 99_991])
    returned.end()


@pytest.mark.parametrize("at", [0, FRAME + 5, 2 * FRAME + 99])
def test_a_body_that_comes_back_altered_has_no_figures(at: int) -> None:
    bodies = Bodies(2 * FRAME + 100)
    body = bodies.make()
    sent = bytearray(b"".join(bodies.frames(body)))
    sent[at] ^= 1
    with pytest.raises(NotMeasured, match="other bytes"):
        bodies.returned(body).take(memoryview(sent))


@pytest.mark.parametrize("length", [-1, 1])
def test_a_body_that_comes_back_with_another_length_has_no_figures(length: int) -> None:
    bodies = Bodies(FRAME)
    body = bodies.make()
    sent = b"".join(bodies.frames(body))
    sent = sent[:length] if length < 0 else sent + bytes(length)
    returned = bodies.returned(body)
    with pytest.raises(NotMeasured, match=r"came back with"):  # noqa: PT012 - what is too long is seen at once
        returned.take(memoryview(sent))
        returned.end()


def _figures(*, slowest: float, memory: int) -> NodeFigures:
    def phase(seconds: float) -> Phase:
        return Phase(size=4_000_000_000, seconds=seconds, cpu=8, others=2, clients=[*[10.0] * 9, slowest])

    ours = {PUTS: phase(40), GETS: phase(20)}
    return NodeFigures(10, 100, ours, {PUTS: phase(10), GETS: phase(4)}, {PUTS: memory, GETS: 1, "idle": 2})


def test_a_node_is_judged_by_its_rates_its_slowest_client_and_its_memory() -> None:
    found = {what: (said, reached) for what, _, said, reached in _figures(slowest=20, memory=999_000_000).verdicts()}
    assert found["puts, rate by rclone's"] == ("0.25", True)
    assert found["gets, rate by rclone's"] == ("0.20", False)
    assert found["puts, slowest client by the mean"] == ("0.53", True)
    assert found["memory of the node (PSS)"] == ("999 MB", True)
    starved = [reached for *_, reached in _figures(slowest=60, memory=1_000_000_000).verdicts()]
    assert starved == [True, False, False, False, False]


def test_a_node_of_several_workers_is_named_and_older_figures_are_of_one(tmp_path: Path) -> None:
    figures = replace(_figures(slowest=20, memory=1), workers=4)
    assert next(iter(figures.rows()))[0] == "oort, one node of 4 workers"
    figures.save(tmp_path / "node.json")
    saved = json.loads((tmp_path / "node.json").read_text())
    assert NodeFigures.from_json(saved) == figures
    del saved["workers"]
    assert NodeFigures.from_json(saved) == replace(figures, workers=1)


def test_figures_of_a_node_stand_on_the_page(tmp_path: Path) -> None:
    figures = _figures(slowest=20, memory=500_000_000)
    figures.save(tmp_path / "node.json")
    assert NodeFigures.from_json(json.loads((tmp_path / "node.json").read_text())) == figures
    (tmp_path / page.PAGE).write_text(page.BEGIN + page.END)
    page.write(tmp_path, [tmp_path / "node.json"])
    written = (tmp_path / page.PAGE).read_text()
    assert "| oort, one node | puts | 40.0 | 100 | 2.5 (2.0) | 477 |" in written
    assert "| gets, rate by rclone's | at least 0.4 | 0.20 | **not reached** |" in written
