"""The import rules see every file, and SQL stays where it belongs."""

import ast
import subprocess
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
PACKAGES = ("client", "clouds", "deploy", "domain", "services")
# Where Postgres may be spoken to: the stores of the roles, what they share, and who runs the server.
_SQL_ROOMS = ("store", "common", "local", "tests", "testing")


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.py"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.parts[0] in PACKAGES and (ROOT / path).exists()]


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def test_every_tracked_file_is_analysed() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    escaped = sorted(str(path) for path in _tracked() if _module(path) not in graph.modules)
    assert escaped == [], "these escape the import rules: is an __init__.py missing?"


def test_sql_is_spoken_only_in_stores_and_what_they_share() -> None:
    strangers = []
    for path in _tracked():
        if any(room in path.parts for room in _SQL_ROOMS) or path.name == "conftest.py":
            continue
        for node in ast.walk(ast.parse((ROOT / path).read_bytes())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in ("psycopg", "psycopg_pool") for name in names):
                strangers.append(str(path))
    assert strangers == []
