import pytest

from domain.wording import plural


@pytest.mark.parametrize(("count", "said"), [(0, "0 copies"), (1, "1 copy"), (2, "2 copies"), (2000, "2,000 copies")])
def test_one_is_said_with_the_noun_and_any_other_number_with_its_plural(count: int, said: str) -> None:
    assert plural(count, "copy", "copies") == said


def test_a_noun_takes_an_s_where_no_plural_is_given() -> None:
    assert [plural(count, "day") for count in (1, 30)] == ["1 day", "30 days"]
