"""A command of click from a plain function: what `Annotated` says beside a type is how the parameter is given.

Kept true: a function gets what it declares, of that type, and its own default for what is not given. Types are str,
int, Path, an enumeration by its values, bool as a flag, and a list of one of these for what may be repeated.
"""

import inspect
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import click

from client.cli.console import list_lines


class Option:
    """An option: its names, its help, the bounds of a number; with `envvar` also from a variable."""

    def __init__(
        self,
        *names: str,
        help: str = "",  # noqa: A002 - as click calls them
        min: int | None = None,  # noqa: A002
        max: int | None = None,  # noqa: A002
        metavar: str | None = None,
        envvar: str | None = None,
        is_eager: bool = False,
    ) -> None:
        self.names = names
        self.bounds = (min, max)
        self.attributes: dict[str, Any] = {
            "help": help,
            "metavar": metavar,
            "envvar": envvar,
            "show_envvar": envvar is not None,
            "is_eager": is_eager,
            "show_default": True,
        }


class Argument:
    """A word that is told by its place."""

    names = ()
    bounds = (None, None)

    def __init__(self, *, help: str, metavar: str | None = None) -> None:  # noqa: A002 - as click calls it
        self.attributes: dict[str, Any] = {"help": help, "metavar": metavar}


def make_command(name: str, function: Callable[..., object]) -> click.Command:
    """The command that calls `function`, whose docstring is its help."""
    return click.Command(name, help=function.__doc__, add_help_option=False, **call_of(function))


def call_of(function: Callable[..., object]) -> dict[str, Any]:
    """`params` and `callback` for a command or a group that calls `function`."""
    hints = get_type_hints(function, include_extras=True)
    declared = inspect.signature(function).parameters
    context = next((name for name, hint in hints.items() if hint is click.Context), None)
    given = [_Parameter(name, hints[name], declared[name].default) for name in declared if name != context]

    def call(**values: Any) -> object:
        arguments = {one.name: one.read(values[one.name]) for one in given}
        return function(**arguments, **({context: click.get_current_context()} if context else {}))

    return {"callback": call, "params": [*(one.made for one in given), help_option()]}


def help_option() -> click.Option:
    """--help, of which what cannot be written is told as of any other result."""
    return click.Option(
        ["--help"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_help,
        help="Show this message and exit.",
    )


def _show_help(context: click.Context, _option: click.Parameter, is_wanted: bool) -> None:
    if is_wanted and not context.resilient_parsing:
        list_lines(context.get_help().splitlines())
        context.exit()


class _Parameter:
    """A parameter of a function and of a command: how what the one reads becomes what the other gets."""

    def __init__(self, name: str, hint: Any, default: Any) -> None:
        annotation, declared = get_args(hint)
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        self._is_list = get_origin(annotation) is list or any(get_origin(kind) is list for kind in kinds)
        while get_args(annotation):
            annotation = next(kind for kind in get_args(annotation) if kind is not NoneType)
        self.name = name
        self._kind: type[Any] = annotation
        self._default = default
        self.made = self._option(declared) if isinstance(declared, Option) else self._argument(declared)

    def read(self, value: Any) -> Any:
        """What the function gets for what was given."""
        if value is None or value == ():
            return None if self._default is inspect.Parameter.empty else self._default
        if not issubclass(self._kind, Enum):
            return list(value) if self._is_list else value
        return [self._kind(one) for one in value] if self._is_list else self._kind(value)

    def _option(self, declared: Option) -> click.Option:
        is_flag = self._kind is bool
        return click.Option(
            [*declared.names, self.name],
            type=None if is_flag else self._type(declared),
            is_flag=is_flag or None,  # False would let the value be left out
            multiple=self._is_list,
            required=self._default is inspect.Parameter.empty,
            **self._shown_default(),
            **declared.attributes,
        )

    def _argument(self, declared: Argument) -> click.Argument:
        is_required = self._default is inspect.Parameter.empty
        return click.Argument(
            [self.name],
            type=self._type(declared),
            nargs=-1 if self._is_list else 1,
            required=is_required,
            **self._shown_default(),
            **declared.attributes,
        )

    def _shown_default(self) -> dict[str, Any]:
        """What the help shows; what says nothing there is left to `read`."""
        default = self._default.value if isinstance(self._default, Enum) else self._default
        says_something = self._kind is bool or (isinstance(default, str | int) and default != "")
        return {"default": default} if says_something else {}

    def _type(self, declared: Option | Argument) -> click.ParamType[Any]:
        if issubclass(self._kind, Enum):
            return click.Choice([member.value for member in self._kind])
        if self._kind is int:
            least, most = declared.bounds
            return click.IntRange(least, most)
        if self._kind is Path:
            return click.Path(path_type=Path, readable=False)
        return click.STRING
