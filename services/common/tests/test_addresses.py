from ipaddress import ip_address

import pytest

from services.common.addresses import address_of, address_of_peer, range_of


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:4711", "192.0.2.1"),
        ("ipv6:[2001:db8::6]:4711", "2001:db8::6"),
        ("ipv6:%5B2001:db8::6%5D:4711", "2001:db8::6"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:4711", "192.0.2.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", "fe80::1%eth0"),
    ],
)
def test_the_address_of_a_peer_is_read_without_its_port(peer: str, address: str) -> None:
    assert address_of_peer(peer) == ip_address(address)


@pytest.mark.parametrize("peer", ["unix:/run/oort.sock", "", "ipv4:", "ipv4:1.2.3.4.5:6", "unknown"])
def test_a_peer_that_has_no_address_has_none(peer: str) -> None:
    assert address_of_peer(peer) is None


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("192.0.2.200", "192.0.2.0/24"),
        ("::ffff:192.0.2.1", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
    ],
)
def test_a_range_has_all_addresses_that_begin_alike(host: str, found: str) -> None:
    address = address_of(host)
    assert address is not None
    assert range_of(address, 24, 48) == found
