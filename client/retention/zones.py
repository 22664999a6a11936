"""The time zone whose days retention counts: one that a policy names, else this machine's."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from client.errors import BadRetention

_LOCALTIME = Path("/etc/localtime")
_DATABASE = "zoneinfo/"


def named_zone(name: str) -> tzinfo:
    """The zone of an IANA name. Raises BadRetention."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise BadRetention(detail=f"time_zone: {name!r} is not known on this device") from None


def local_zone(environment: Mapping[str, str], localtime: Path = _LOCALTIME) -> tuple[tzinfo, str]:
    """This machine's zone and its IANA name, which is empty where only the rules of the zone can be told.

    `TZ`, then /etc/localtime, as the C library has it.
    """
    name = environment.get("TZ", "").removeprefix(":")
    try:
        if not name:
            path = str(localtime.resolve(strict=True))
            name = path.rpartition(_DATABASE)[2] if _DATABASE in path else ""
        if name:
            return ZoneInfo(name), name
        with localtime.open("rb") as file:
            return ZoneInfo.from_file(file), ""
    except (KeyError, ValueError, OSError):
        return datetime.now().astimezone().tzinfo or UTC, ""
