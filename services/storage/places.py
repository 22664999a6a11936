"""What lies in a bucket's folder at the places that objects have."""

from pathlib import Path

from domain.names import BadName, ObjectKind, ObjectName


def entries(folder: Path) -> list[Path]:
    """What lies in a folder; nothing if there is none. Raises OSError."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def name_at(kind: ObjectKind, path: Path) -> ObjectName | None:
    """The object whose file is at a place; None for what is none of them."""
    try:
        name = ObjectName(kind, path.name)
    except BadName:
        return None
    return name if name.path.endswith(f"{path.parent.name}/{path.name}") else None
