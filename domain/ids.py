"""UUID version 7 (RFC 9562, section 5.7): ids that clients choose, so that a repeated call is the same call."""

from uuid import UUID


def uuid7(unix_ms: int, random_80: bytes) -> UUID:
    """Build an id from the time in milliseconds since 1970 and 10 random bytes."""
    value = (unix_ms & (1 << 48) - 1) << 80 | int.from_bytes(random_80, "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)
