"""What is asked of a store besides reading and writing, as calls for `Calls`."""

from collections.abc import Awaitable, Callable, Mapping

from clouds.calls import more_came
from clouds.failures import Failure, Trouble, is_missing, is_of_opendal, read_failure
from clouds.operator import Entry, Operator

_PAGE = 1000  # entries that come at once, at most
_READINGS = 3  # of bytes that are fewer than the store says that it has
# Of an operator, by its scheme: nothing is looked for in the environment or on the machine, and S3 gets checksums.
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "s3": {"disable_config_load": "true", "disable_ec2_metadata": "true", "checksum_algorithm": "crc32c"},
    "gcs": {"disable_config_load": "true", "disable_vm_metadata": "true"},
    "azblob": {},
}


def listing(folder: str) -> Callable[[Operator], Awaitable[list[Entry]]]:
    """What lies in a folder, whose name ends with `/`: nothing if there is none. Pages come one after the other.

    Each entry comes once, also from a store that repeats some on its next page; one that sends the same for ever, as
    those do that pass over the question for a next page, is refused.
    """

    async def entries(operator: Operator) -> list[Entry]:
        found: dict[str, Entry] = {}
        repeated = 0
        async for entry in await operator.list(folder):
            more_came()
            repeated = repeated + 1 if entry.path in found else 0
            if repeated > len(found) + _PAGE:
                raise Failure(Trouble.REFUSED, f"its list of {folder} begins anew without end: take another store")
            found[entry.path] = entry
        return list(found.values())

    return entries


def sizing(path: str) -> Callable[[Operator], Awaitable[int | None]]:
    """The size of a file in bytes, or None."""

    async def size(operator: Operator) -> int | None:
        try:
            return (await operator.stat(path)).content_length
        except Exception as error:
            if is_missing(error):
                return None
            if not is_of_opendal(error) or read_failure(error).trouble is not Trouble.REFUSED:
                raise
            raise await _refusal_to_read(operator, path) or error from None

    return size


def reading(path: str, offset: int, length: int) -> Callable[[Operator], Awaitable[bytes]]:
    """A part of a file, read again where fewer bytes come than there are, CUT at last; SHORT where it ends before."""

    async def part(operator: Operator) -> bytes:
        for _ in range(_READINGS):
            try:
                body = await operator.read(path, offset=offset, size=length)
            except Exception as error:
                if _trouble(error) is not Trouble.SHORT:
                    raise
                body = b""
            if len(body) == length:
                return body
            more_came()
            stored = await sizing(path)(operator)
            if stored is None:
                raise Failure(Trouble.MISSING, "it is not there")
            if stored < offset + length:
                raise Failure(Trouble.SHORT, f"{max(stored - offset, 0)} of {length} bytes from {offset} are there")
            more_came()
        raise cut(offset, length)

    return part


def cut(offset: int, length: int) -> Failure:
    """What a store has, and does not send whole however often it is asked."""
    return Failure(Trouble.CUT, f"it sends fewer than the {length} bytes from {offset} that it has: try again later")


def _trouble(error: Exception) -> Trouble | None:
    if isinstance(error, Failure):
        return error.trouble
    return read_failure(error).trouble if is_of_opendal(error) else None


async def _refusal_to_read(operator: Operator, path: str) -> Exception | None:
    """Why the store lets nothing be done with a file, which it cannot say of a HEAD: the answer has no body."""
    try:
        await operator.read(path, offset=0, size=1)
    except Exception as error:
        if not is_of_opendal(error):
            raise
        return error if read_failure(error).trouble is Trouble.REFUSED else None
    return None


def deleting(path: str) -> Callable[[Operator], Awaitable[None]]:
    """Nothing more of a file; that there is none is no error."""
    return lambda operator: operator.delete(path)
