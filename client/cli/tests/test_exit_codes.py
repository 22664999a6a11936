import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import client
from client.errors import OortError

TABLE = Path(__file__).parents[3] / "docs" / "exit-codes.md"
# Not classes of errors: an interruption and the last resort of the program.
OTHERS = {"Interrupted": 130, "UnexpectedError": 1}


def all_errors(kind: type[OortError]) -> Iterator[type[OortError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from all_errors(below)


def test_the_table_of_exit_codes_has_every_error_with_its_code() -> None:
    for module in pkgutil.walk_packages(client.__path__, "client."):
        if ".tests" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    documented: dict[str, int] = {}
    for line in TABLE.read_text().splitlines():
        row = re.fullmatch(r"\| (\d+) \|.*\| (.*) \|", line)
        if row:
            documented.update(dict.fromkeys(filter(None, row[2].strip().split(", ")), int(row[1])))
    own = [kind for kind in all_errors(OortError) if kind.__module__.startswith("client.")]
    errors = {kind.__name__: kind.exit_code for kind in own if ".tests" not in kind.__module__}
    assert documented == errors | OTHERS


def test_every_error_of_a_person_is_one_line_that_fills_its_fields() -> None:
    for kind in all_errors(OortError):
        fields = re.findall(r"{(\w+)}", kind.__doc__ or "")
        text = str(kind(**dict.fromkeys(fields, "x")))
        assert text
        assert "\n" not in text
        assert "{" not in text
