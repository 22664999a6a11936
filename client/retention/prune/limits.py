"""How far a prune goes."""

from dataclasses import dataclass

SMALL_PACK = 4 << 20  # a quarter of a full one


@dataclass(frozen=True, slots=True)
class PruneLimits:
    """`unused_bytes`, or else `unused_share` of what the vault then holds, may stay unused in packs that are kept.

    Packs of `repack_bytes` in all, at most, are repacked in one run; None is no limit. Packs that are smaller than
    `small_pack` bytes are put together where there are many.
    """

    unused_share: float = 0.05
    unused_bytes: int | None = None
    repack_bytes: int | None = None
    small_pack: int = SMALL_PACK

    def __post_init__(self) -> None:
        if not 0 <= self.unused_share < 1:
            raise ValueError(f"a share of {self.unused_share} of unused bytes is not possible: 0 to below 1")
        for amount in (self.unused_bytes or 0, self.repack_bytes or 0, self.small_pack):
            if amount < 0:
                raise ValueError(f"a limit of {amount} bytes is not possible")

    def unused_allowed(self, used: int) -> int:
        """The unused bytes that may stay beside `used` ones."""
        if self.unused_bytes is not None:
            return self.unused_bytes
        return int(used * self.unused_share / (1 - self.unused_share))
