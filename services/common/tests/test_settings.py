from pathlib import Path

import pytest

from services.common.errors import StartError
from services.common.settings import BAD_SETTINGS, ProcessSettings, RoleSettings, load, split_host_port
from services.common.testing.server import Certificates, some_settings


@pytest.mark.parametrize(
    ("text", "parts"),
    [("localhost:1", ("localhost", 1)), ("0.0.0.0:65535", ("0.0.0.0", 65535)), ("[::1]:80", ("::1", 80))],
)
def test_host_and_port_are_told_apart(text: str, parts: tuple[str, int]) -> None:
    assert split_host_port(text) == parts


@pytest.mark.parametrize("text", ["", "x", ":1", "x:", "x:y", "x:65536", "::1:80", "x:-1"])
def test_what_is_no_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|brackets"):
        split_host_port(text)


def test_settings_come_from_the_environment(
    installation: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = some_settings(ProcessSettings, "auth", installation, log_level="debug", drain_seconds=1.5)
    for name, value in given.model_dump().items():
        if value is not None:
            monkeypatch.setenv(f"OORT_{name.upper()}", str(value))
    assert load(ProcessSettings) == given
    with pytest.raises(StartError, match="OORT_SERIAL") as refused:
        load(RoleSettings)
    assert refused.value.exit_code == BAD_SETTINGS
    monkeypatch.setenv("OORT_TLS_KEY", str(tmp_path / "none.pem"))
    with pytest.raises(StartError, match=r"OORT_TLS_KEY .*: there is no file"):
        load(ProcessSettings)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "x" * 64, "a\nb"])
def test_an_instance_has_a_plain_name(name: str, installation: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    for field, value in some_settings(ProcessSettings, "auth", installation).model_dump().items():
        if value is not None:
            monkeypatch.setenv(f"OORT_{field.upper()}", str(value))
    monkeypatch.setenv("OORT_INSTANCE", name)
    with pytest.raises(StartError, match="OORT_INSTANCE"):
        load(ProcessSettings)


def test_passwords_in_addresses_do_not_show(installation: Certificates) -> None:
    settings = some_settings(ProcessSettings, "auth", installation, database_url="password=hidden", redis_url="hidden")
    assert "hidden" not in repr(settings)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in RoleSettings.model_fields.values())
