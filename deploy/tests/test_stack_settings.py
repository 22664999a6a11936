"""What the operator sets for one process of an embedded stack."""

import re
from pathlib import Path

import pytest

from deploy.local import roles, settings
from deploy.local.errors import StackError
from deploy.local.folder import StackFolder
from deploy.local.stack import up
from services.common.settings import ProcessSettings


@pytest.mark.parametrize(
    "line", ["hello", "OORT_BEAT_SECONDS", "PATH=/tmp", "export OORT_BEAT_SECONDS=1", "OORT_PEPPER=a\0b"]
)
def test_a_line_that_sets_nothing_is_named(tmp_path: Path, line: str) -> None:
    folder = StackFolder.create(tmp_path / "stack")
    assert folder.settings("auth") == {}
    folder.settings_file("auth").parent.mkdir()
    folder.settings_file("auth").write_text(f"OORT_PEPPER=a=b c\n{line}\n")
    with pytest.raises(StackError, match=re.escape(f"`{line}` is no setting")):
        folder.settings("auth")
    folder.settings_file("auth").write_text("OORT_PEPPER=a=b c\n")
    assert folder.settings("auth") == {"OORT_PEPPER": "a=b c"}


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("postgres", "OORT_LOG_LEVEL=debug", "is for no process of a role: license, cluster, node-a"),
        ("node_a", "OORT_LOG_LEVEL=debug", "is for no process of a role"),
        ("node-a", "OORT_LOGLEVEL=debug", "the role storage has no OORT_LOGLEVEL"),
        ("auth", "OORT_SCRUB_DAYS=1", "the role auth has no OORT_SCRUB_DAYS"),
        ("node-a", "OORT_REST_LISTEN=127.0.0.1:1", "OORT_REST_LISTEN is chosen by the stack"),
        ("license", "OORT_INSTANCE=other", "OORT_INSTANCE is chosen by the stack"),
    ],
)
def test_what_is_set_for_nobody_or_is_the_stacks_own_is_refused(
    tmp_path: Path, name: str, line: str, said: str
) -> None:
    folder = StackFolder.create(tmp_path / "stack")
    folder.settings_file("branding").parent.mkdir()
    folder.settings_file("branding").write_text("OORT_LOG_LEVEL=debug\n")
    folder.settings_file("node-p").write_text("OORT_SCRUB_DAYS=1\nOORT_PUBLIC_ENDPOINT=127.0.0.1:1\n")
    folder.settings_file(".node-a.swp").write_bytes(b"\0")
    settings.check(folder)
    folder.settings_file(name).write_text(line + "\n")
    with pytest.raises(StackError, match=re.escape(f"{folder.settings_file(name)}")) as refused:
        up(folder.path, detach=True, say=print, ready=pytest.fail)
    assert said in str(refused.value)


def test_postgres_takes_the_connections_of_all_workers_of_a_node(tmp_path: Path) -> None:
    folder = StackFolder.create(tmp_path / "stack")
    nodes = roles.nodes(3)
    assert settings.further_workers(folder, nodes) == 0
    folder.settings_file("node-a").parent.mkdir()
    folder.settings_file("node-a").write_text("OORT_WORKERS=16\n")
    folder.settings_file("node-b").write_text("OORT_WORKERS=many\n")
    folder.settings_file("node-c").write_text("OORT_WORKERS=3\n")
    further = settings.further_workers(folder, nodes)
    assert further == 15 + 2
    each = ProcessSettings.model_fields["database_connections"].default * 3 // 2 + 1
    assert roles.connections(3, further) > (len(roles.instances(3)) + further) * each
