from enum import StrEnum
from pathlib import Path
from typing import Annotated

import click
import pytest

from client.cli.parameters import Argument, Option, make_command


class Colour(StrEnum):
    DARK_BLUE = "dark-blue"
    RED = "red"


def paint(
    context: click.Context,
    *,
    walls: Annotated[list[str], Argument(help="Which.", metavar="WALL...")],
    colour: Annotated[Colour, Option("--colour", help="What.")] = Colour.RED,
    others: Annotated[list[Colour], Option("--other")] = [],  # noqa: B006 - nobody changes it
    bucket: Annotated[Path | None, Option("--bucket", "-b")] = None,
    coats: Annotated[int, Option("--coats", min=1, max=3)] = 2,
    names: Annotated[list[str] | None, Option("--name")] = None,
    slowly: Annotated[bool, Option("--slowly")] = False,
) -> tuple[object, ...]:
    """Paint walls."""
    return context.info_name, walls, colour, others, bucket, coats, names, slowly


def ran(*arguments: str) -> object:
    with make_command("paint", paint).make_context("paint", list(arguments)) as context:
        return context.command.invoke(context)


def test_a_function_gets_its_own_defaults_for_what_is_not_given() -> None:
    assert ran("north") == ("paint", ["north"], Colour.RED, [], None, 2, None, False)


def test_a_function_gets_what_is_given_in_the_types_that_it_declares() -> None:
    given = ("north", "--colour", "dark-blue", "--other", "red", "--other", "dark-blue", "-b", "\udcff/x", "--coats=3")
    found = ran(*given, "--name", "", "--slowly", "south", "--", "--east")
    walls = ["north", "south", "--east"]
    others = [Colour.RED, Colour.DARK_BLUE]
    assert found == ("paint", walls, Colour.DARK_BLUE, others, Path("\udcff/x"), 3, [""], True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing argument 'WALL...'"),
        (("north", "--coats", "4"), "4 is not in the range 1<=x<=3"),
        (("north", "--coats", "many"), "'many' is not a valid integer"),
        (("north", "--colour", "pink"), "'pink' is not one of 'dark-blue', 'red'"),
        (("north", "--slow"), "No such option '--slow'. Did you mean '--slowly'?"),
        (("north", "--bucket"), "Option '--bucket' requires an argument"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(click.ClickException) as refused:
        ran(*arguments)
    assert words in refused.value.format_message()


def test_the_help_says_what_there_is_and_what_holds_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.exceptions.Exit):
        ran("--help")
    text = capsys.readouterr().out
    assert text.startswith("Usage: paint [OPTIONS] WALL...\n\n  Paint walls.\n")
    assert "[default: 2; 1<=x<=3]" in text
    assert "[dark-blue|red]" in text
    assert "[default: red]" in text
    assert "False" not in text
    assert "None" not in text
