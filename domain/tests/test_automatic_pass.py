from datetime import timedelta

import pytest

from domain.automatic_pass import PassLevel, PassNeed, Strength, chosen_level, pass_need

GIB = 1 << 30
HOURS_OF_ROWS = ((0, 23.9), (24, 14 * 24 - 1), (14 * 24, 21 * 24 - 1), (21 * 24, 9999, None))
EXCESS_OF_COLUMNS = ((0, 2), (3, 9), (10, 49), (50, 10_000))


def test_numbers_never_change() -> None:
    assert {level.name: int(level) for level in PassLevel} == {
        "AUTOMATIC": 0,
        "IMMEDIATE": 1,
        "MORE_OFTEN": 2,
        "LESS_OFTEN": 3,
    }


@pytest.mark.parametrize(
    ("level", "matrix"),
    [
        (PassLevel.MORE_OFTEN, ["none try try must", "none try must must", "try try must must", "must must must must"]),
        (PassLevel.LESS_OFTEN, ["none none none try", "none none try must", "none try try must", "try must must must"]),
        (PassLevel.IMMEDIATE, ["must must must must"] * 4),
    ],
)
def test_the_matrix_of_time_and_excess(level: PassLevel, matrix: list[str]) -> None:
    for row, ages in zip(matrix, HOURS_OF_ROWS, strict=True):
        for word, counts in zip(row.split(), EXCESS_OF_COLUMNS, strict=True):
            for hours in ages:
                since = None if hours is None else timedelta(hours=hours)
                for excess in counts:
                    assert pass_need(level, since, excess) is PassNeed(word), (level, hours, excess)


@pytest.mark.parametrize(
    ("days", "is_server", "gib", "is_32_bit", "strong"),
    [
        (8, True, 4, False, True),
        (8, False, 16, False, True),
        (1, True, 16, False, True),
        (8, True, 16, False, True),
        (8, False, 4, False, False),
        (1, True, 8, False, False),
        (7, True, 8, False, False),
        (1, False, 16, False, False),
        (8, True, 2, False, False),
        (8, True, 16, True, False),
    ],
)
def test_a_device_is_strong_by_two_of_three_signs(
    days: int, is_server: bool, gib: int, is_32_bit: bool, strong: bool
) -> None:
    assert Strength(timedelta(days=days), is_server, gib * GIB, is_32_bit).is_strong is strong


def test_automatic_is_more_often_for_an_only_device_and_for_a_strong_one() -> None:
    strong, weak = Strength(timedelta(days=30), True, 16 * GIB), Strength(timedelta(), False, GIB)
    assert chosen_level(PassLevel.AUTOMATIC, 1, weak) is PassLevel.MORE_OFTEN
    assert chosen_level(PassLevel.AUTOMATIC, 2, weak) is PassLevel.LESS_OFTEN
    assert chosen_level(PassLevel.AUTOMATIC, 2, strong) is PassLevel.MORE_OFTEN
    for level in (PassLevel.IMMEDIATE, PassLevel.MORE_OFTEN, PassLevel.LESS_OFTEN):
        assert chosen_level(level, 1, strong) is level
    with pytest.raises(ValueError, match="choose"):
        pass_need(PassLevel.AUTOMATIC, None, 0)
