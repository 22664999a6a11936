from array import array

from hypothesis import given
from hypothesis import strategies as st

from client.vault.ranks import last_within

WEIGHED = st.lists(
    st.tuples(st.integers(0, (1 << 64) - 1), st.integers(1, 9)), min_size=1, unique_by=lambda one: one[0]
)


@given(WEIGHED, st.integers(0, 200), st.sampled_from([0, 50, 63]))
def test_the_border_is_where_a_sorted_list_has_it(weighed: list[tuple[int, int]], limit: int, shift: int) -> None:
    drawn = dict.fromkeys(rank >> shift for rank, _ in weighed)  # with a shift they lie in one drawer
    weights = [weight for _, weight in weighed][: len(drawn)]
    together, last = 0, min(drawn)
    for rank, weight in sorted(zip(drawn, weights, strict=True)):
        together += weight
        if together > limit:
            break
        last = rank
    assert last_within(array("Q", drawn), array("B", weights), limit) == last
