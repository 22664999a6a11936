import os

import pytest

from client.errors import StoreError
from client.stores.abc import ObjectInfo
from client.vault.pack_sizes import PackSizes
from domain.names import ObjectKind, ObjectName


def a_listing(*ids: bytes) -> list[ObjectInfo]:
    return [
        ObjectInfo(ObjectName(ObjectKind.PACK, identity.hex()), 100 + number)
        for number, identity in enumerate(sorted(ids))
    ]


def test_each_pack_is_taken_or_among_the_rest() -> None:
    listing = a_listing(*(os.urandom(32) for _ in range(500)))
    sizes = PackSizes(listing)
    assert len(sizes) == 500
    for info in listing[::3]:
        assert sizes.take(bytes.fromhex(info.name.id)) == info.size
    rest = [info for number, info in enumerate(listing) if number % 3]
    assert list(sizes.rest()) == [(info.name, info.size) for info in rest]


def test_a_pack_that_is_not_listed_has_no_size() -> None:
    assert PackSizes([]).take(bytes(32)) is None
    sizes = PackSizes(a_listing(b"\1" * 32, b"\xff" * 32))
    assert [sizes.take(bytes([byte]) * 32) for byte in (0, 1, 2, 255)] == [None, 100, None, 101]


def test_packs_whose_ids_begin_alike_are_kept_apart() -> None:
    ids = [b"alike---" + bytes([number]) * 24 for number in range(5)]
    sizes = PackSizes(a_listing(*ids))
    assert [sizes.take(identity) for identity in ids] == [100, 101, 102, 103, 104]
    assert sizes.take(b"alike---" + b"\7" * 24) is None


@pytest.mark.parametrize("order", [(0, 1, 1), (1, 0), (0, 1, 0)])
def test_a_listing_that_names_a_pack_twice_or_out_of_order_is_refused(order: tuple[int, ...]) -> None:
    listing = a_listing(b"\1" * 32, b"\2" * 32)
    with pytest.raises(StoreError, match="twice or out of order"):
        PackSizes(listing[at] for at in order)
