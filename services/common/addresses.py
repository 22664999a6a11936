"""Addresses of callers, and the ranges of them that one caller may have."""

import ipaddress
from urllib.parse import unquote

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_IPV4 = 4


def address_of(host: str) -> Address | None:
    """Read an address; one of IPv4 that is written as IPv6 (RFC 4291, 2.5.5.2) is that of IPv4. None if it is none."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def address_of_peer(peer: str) -> Address | None:
    """The address in grpc's `ipv4:1.2.3.4:5`, `ipv6:[::1]:5` or `ipv6:%5B::1%5D:5`; None for what is no address."""
    _, _, rest = peer.partition(":")
    return address_of(unquote(rest.rpartition(":")[0]).strip("[]"))


def range_of(address: Address, ipv4_bits: int, ipv6_bits: int) -> str:
    """The range that shares so many leading bits with the address, as `192.0.2.0/24`."""
    bits = ipv4_bits if address.version == _IPV4 else ipv6_bits
    # By its bytes, for an address itself may have a scope: fe80::1%eth0.
    return str(ipaddress.ip_network((address.packed, bits), strict=False))
