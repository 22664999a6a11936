"""What a check finds wrong, and how it is said."""

from collections.abc import Callable
from dataclasses import dataclass

from client.errors import OortError

Progress = Callable[[str, int, int], None]  # what is looked at, how many are done, and of how many (0: not known)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with `name`; no error is what costs space or speed only."""

    name: str
    detail: str
    is_error: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}"


def cost_only(name: object, detail: str) -> Problem:
    return Problem(str(name), detail, is_error=False)


def failure(name: object, error: OortError) -> Problem:
    """What an error says of `name`, which need not be said twice."""
    about_name = str(error.fields.get("name")) == str(name) and "detail" in error.fields
    return Problem(str(name), str(error.fields["detail"] if about_name else error))
