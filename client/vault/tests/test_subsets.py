import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.stores.abc import ObjectInfo
from client.vault.pack_sizes import PackSizes
from client.vault.subsets import Part, Sample, subset_of
from domain.names import ObjectKind, ObjectName


def packs(count: int) -> list[ObjectInfo]:
    names = (hashlib.sha256(bytes([number % 256, number // 256])).hexdigest() for number in range(count))
    return sorted(
        (ObjectInfo(ObjectName(ObjectKind.PACK, name), 100 + at) for at, name in enumerate(names)),
        key=lambda info: info.name,
    )


def chosen(subset: Part | Sample, infos: list[ObjectInfo]) -> set[ObjectName]:
    reads = subset.chosen(PackSizes(infos))
    return {info.name for info in infos if reads(info.name)}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60), st.integers(1, 20))
def test_the_parts_have_no_pack_in_common_and_are_all_packs_together(count: int, parts: int) -> None:
    infos = packs(count)
    found = [chosen(Part(number, parts), infos) for number in range(1, parts + 1)]
    assert sum(map(len, found)) == count
    assert set().union(*found) == {info.name for info in infos}


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.floats(0.001, 1), st.text(max_size=80))
def test_a_share_is_so_many_packs_and_the_same_seed_draws_them_again(count: int, share: float, seed: str) -> None:
    infos = packs(count)
    found = chosen(Sample(seed, share=share), infos)
    assert len(found) == max(1, int(count * share))
    assert found == chosen(Sample(seed, share=share), infos)


def test_other_seeds_draw_other_packs() -> None:
    infos = packs(60)
    assert len({frozenset(chosen(Sample(str(seed), share=0.1), infos)) for seed in range(5)}) == 5


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9_000))
def test_an_amount_is_as_many_packs_as_fit_into_it_and_at_least_one(count: int, size: int) -> None:
    infos = packs(count)
    found = [info.size for info in infos if info.name in chosen(Sample("s", size=size), infos)]
    assert len(found) == 1 or sum(found) <= size


def test_of_no_packs_none_is_drawn() -> None:
    assert chosen(Sample("s", share=1), []) == set()


def test_it_is_said_as_to_restic() -> None:
    assert subset_of("2/7", "s", int) == Part(2, 7)
    assert subset_of("2.5%", "s", int) == Sample("s", share=0.025)
    assert subset_of("100%", "s", int) == Sample("s", share=1)
    assert subset_of("2000", "s", int) == Sample("s", size=2000)


@pytest.mark.parametrize("text", ["0/7", "8/7", "1/0", "1/257", "0%", "101%", "0"])
def test_what_is_no_subset_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"part|share|subset"):
        subset_of(text, "s", int)
