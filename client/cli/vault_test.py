"""backup-tool vault test"""

import secrets
from typing import Annotated

import click

from client.cli.console import emit, say
from client.cli.invocation import Invocation, Json
from client.cli.parameters import Argument
from client.errors import PromiseBroken, UsageError

Name = Annotated[str, Argument(help="Name of the vault.")]


def vault_test(context: click.Context, name: Name, as_json: Json = False) -> None:
    """Try out whether a vault's store keeps what a vault relies on, and how fast it is; the vault is not touched."""
    from client.account.opening import place_of
    from client.account.promises import Verdict, try_out
    from client.stores.cloud import CloudStore
    from client.stores.limited import LimitedStore
    from domain.sessions import Purpose

    broken = []
    with Invocation.of(context).device() as device, place_of(device, name, Purpose.READ) as place:
        store = place.store.inner if isinstance(place.store, LimitedStore) else place.store
        if not isinstance(store, CloudStore):
            raise UsageError(detail=f"The vault {name} is not on a store of the net: `check` looks through it.")
        for promise in try_out(store, f"oort-test-{secrets.token_hex(8)}"):
            if promise.verdict is Verdict.BROKEN:
                broken.append(promise.name)
            if as_json:
                emit({"promise": promise.name, "verdict": promise.verdict.value, "detail": promise.said})
            else:
                say(f"{promise.verdict.value:7} {promise.name}: {promise.said}.")
        if broken:
            raise PromiseBroken(place=store.place, names=", ".join(broken))
