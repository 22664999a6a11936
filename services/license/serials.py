"""Serials: what an operator buys."""

import re

from services.common.errors import InvalidArgument

_SERIAL = re.compile(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){5}")
_LONGEST_DESCRIPTION = 1000


def check_serial(serial: str, description: str) -> None:
    """Raises InvalidArgument for what is not a serial, or a description of more than 1000 characters."""
    if not _SERIAL.fullmatch(serial):
        raise InvalidArgument(detail="A serial is six groups of four digits or capital letters, joined by hyphens.")
    if len(description) > _LONGEST_DESCRIPTION:
        raise InvalidArgument(detail=f"A description has at most {_LONGEST_DESCRIPTION} characters.")
