"""backup-tool device limits"""

from contextlib import nullcontext
from typing import Annotated

import click

from client.cli.console import emit, say, telling
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Option

Upload = Annotated[str | None, Option("--upload", help="As --limit-upload of a backup.", metavar="LIMIT")]
Download = Annotated[str | None, Option("--download", help="As --limit-download of a restore.", metavar="LIMIT")]


def device_limits(
    context: click.Context, *, upload: Upload = None, download: Download = None, as_json: Json = False
) -> None:
    """Tell the limits of this device's line, or keep others: for each of its commands that says none itself.

    LIMIT is a rate in bytes a second with k, M or G, or a timetable such as '08:00,512k 18:00,off' or
    'mon-08:00,512k fri-18:00,off', by this device's clock; `off` is no limit.
    """
    from client.account.limits import keep_texts, kept_texts

    home = Invocation.of(context).home
    given = {name: text for name, text in (("upload", upload), ("download", download)) if text is not None}
    texts = keep_texts(home, given) if given else kept_texts(home)
    with telling("the limits are kept") if given else nullcontext():
        if as_json:
            emit(texts)
        else:
            for direction, text in texts.items():
                say(f"{direction}: {text}")
