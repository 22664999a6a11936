"""Between messages and our own types: ids and times. What a caller sends in a wrong form is INVALID_ARGUMENT."""

from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import InvalidArgument

_UUID_TEXT_LENGTH = 36


def uuid_of(text: str, field: str) -> UUID:
    """Read an id in its 36-character form; `field` names it in the error. Raises InvalidArgument."""
    try:
        value = UUID(text) if len(text) == _UUID_TEXT_LENGTH else None
    except ValueError:
        value = None
    if value is None:
        raise InvalidArgument(detail=f"{field} is not a UUID.")
    return value


def optional_uuid_of(text: str, field: str) -> UUID | None:
    """As `uuid_of`; None for the empty text."""
    return uuid_of(text, field) if text else None


def timestamp_of(moment: datetime) -> Timestamp:
    """A message from an aware time. Microseconds are kept."""
    message = Timestamp()
    message.FromDatetime(moment.astimezone(UTC))
    return message


def optional_timestamp_of(moment: datetime | None) -> Timestamp | None:
    """As `timestamp_of`; None leaves the field unset."""
    return None if moment is None else timestamp_of(moment)


def datetime_of(message: Timestamp, field: str) -> datetime:
    """An aware UTC time from a message. Raises InvalidArgument if it lies outside years 1 to 9999."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(detail=f"{field} is not a valid time.") from None
