"""Ways in which the files of a vault come to harm."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

Damage = Callable[[Path, Path], None]  # to a file, with another of its kind, or of another kind, at hand


def flip(victim: Path, other: Path) -> None:  # noqa: ARG001 - as the others
    """One bit in every thousand bytes, so that whatever lies in it is hit."""
    body = bytearray(victim.read_bytes())
    for at in range(len(body) // 2 % 1000, len(body), 1000):
        body[at] ^= 0x10
    _write(victim, bytes(body))


def truncate(victim: Path, other: Path) -> None:  # noqa: ARG001
    _write(victim, victim.read_bytes()[: victim.stat().st_size // 3])


def swap(victim: Path, other: Path) -> None:
    """The name leads to the bytes of another object."""
    _write(victim, other.read_bytes())


def remove(victim: Path, other: Path) -> None:  # noqa: ARG001
    victim.unlink()


DAMAGES: Sequence[Damage] = (flip, truncate, swap, remove)


def _write(victim: Path, body: bytes) -> None:
    victim.chmod(0o600)
    victim.write_bytes(body)


def each_damage(
    vault: Path, choose: Callable[[], tuple[Path, Path]], damages: Sequence[Damage] = DAMAGES
) -> Iterator[tuple[str, Path]]:
    """Harm the folder of a vault in every way, one after the other, each time whole but for that: the way, the victim.

    `choose` answers the file to harm and another one, of a vault that is whole.
    """
    whole = {path: path.read_bytes() for path in vault.rglob("*") if path.is_file()}
    for damage in damages:
        for path in [path for path in vault.rglob("*") if path.is_file() and path not in whole]:
            path.unlink()
        for path, body in whole.items():
            if not path.exists() or path.read_bytes() != body:
                path.unlink(missing_ok=True)
                path.write_bytes(body)
        victim, other = choose()
        damage(victim, other)
        yield damage.__name__, victim
