"""docs/settings.md is the page of all settings; this test writes it anew in memory and compares."""

from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo

from services.auth.settings import AuthSettings
from services.branding.settings import BrandingSettings
from services.cluster.settings import ClusterSettings
from services.common.settings import ProcessSettings
from services.license.settings import LicenseSettings
from services.storage.settings import StorageSettings

ROLES: dict[str, type[ProcessSettings]] = {
    "auth": AuthSettings,
    "storage": StorageSettings,
    "license": LicenseSettings,
    "branding": BrandingSettings,
    "cluster": ClusterSettings,
}
PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def rows() -> Iterator[str]:
    users: dict[str, list[str]] = {}
    fields: dict[str, FieldInfo] = {}
    for role, kind in ROLES.items():
        for name, field in kind.model_fields.items():
            users.setdefault(name, []).append(role)
            fields.setdefault(name, field)
    for name, field in fields.items():
        roles = "all" if len(users[name]) == len(ROLES) else ", ".join(users[name])
        yield f"| `OORT_{name.upper()}` | {roles} | {default(name)} | {field.description} |"


def default(name: str) -> str:
    """One value, or that of each role where they differ."""
    values = {role: value_of(kind.model_fields[name]) for role, kind in ROLES.items() if name in kind.model_fields}
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return ", ".join(f"{role} {value}" for role, value in values.items())


def value_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "" if field.default is None or field.default == [] else f"`{field.default}`"


def test_every_setting_of_every_role_has_its_row() -> None:
    written = [line for line in PAGE.read_text().splitlines() if line.startswith("| `OORT_")]
    assert written == list(rows())
