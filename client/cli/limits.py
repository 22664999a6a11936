"""--limit-upload and --limit-download, of every command that moves much."""

from dataclasses import replace

import click

from client.cli.invocation import Invocation

LIMITED = frozenset(
    ("backup", "restore", "dump", "mount", "copy", "check", "verify", "repair", "rebuild-index", "retention"),
)
_HELP = "Bytes a second that are {} at most, as 512k, 10M or '08:00,512k 18:00,off'; default: as kept."


def limit_options() -> list[click.Option]:
    return [_option("upload", "sent"), _option("download", "fetched")]


def _option(direction: str, what: str) -> click.Option:
    def take(context: click.Context, _: click.Parameter, text: str | None) -> None:
        if text is None or context.resilient_parsing:
            return
        from client.account.limits import timetable_of

        timetable_of(text)  # what is not right is refused before anything is done
        invocation = Invocation.of(context)
        context.obj = replace(invocation, limits={**invocation.limits, direction: text})

    return click.Option(
        [f"--limit-{direction}"], metavar="LIMIT", help=_HELP.format(what), expose_value=False, callback=take
    )
