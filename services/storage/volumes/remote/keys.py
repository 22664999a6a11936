"""What opens the stores of a node.

Kept true: it is read from files that nobody else may read, and never shown.
"""

import base64
import binascii
import configparser
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.common.errors import StartError

_OTHERS = 0o077
# By the scheme of the store's address: the section of the file, and what it names, with opendal's names of that.
_SECTIONS = {
    "s3": ("default", {"aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key"}),
    "azblob": ("azblob", {"account_name": "account_name", "account_key": "account_key"}),
    "gcs": ("gcs", {"credential_file": "credential"}),
}
# What lasts, by its type, and what it has to have.
_GOOGLES = {"service_account": ("client_email", "private_key"), "external_account": ()}


@dataclass(frozen=True, slots=True)
class StoreKey:
    """What opens the stores of one kind: opendal's settings."""

    settings: Mapping[str, str] = field(repr=False)

    @classmethod
    def read(cls, path: Path, scheme: str) -> "StoreKey":
        """From a file as AWS's tools have it, with a section for each kind of store. Raises StartError."""
        section, names = _SECTIONS[scheme]
        try:
            read = configparser.ConfigParser(interpolation=None)
            read.read_string(_private(path))
            if "aws_session_token" in read[section]:
                raise StartError(
                    f"OORT_STORE_KEY_FILE: {path} has a key for a while (aws_session_token): give a lasting one"
                )
            found = {opendals: read[section][name] for name, opendals in names.items()}
        except (configparser.Error, UnicodeDecodeError, KeyError):
            raise StartError(
                f"OORT_STORE_KEY_FILE: {path} lacks a section [{section}] with {' and '.join(names)}"
            ) from None
        if not all(found.values()):  # in place of which opendal would look at the environment, and at the machine
            raise StartError(f"OORT_STORE_KEY_FILE: {path} has nothing for one of {' and '.join(names)} in [{section}]")
        if "account_key" in found:
            _require_base64(path, found["account_key"])
        if "credential" in found:
            found["credential"] = _credential(path.parent / found["credential"])
        return cls(found)


def _private(path: Path) -> str:
    try:
        with path.open() as file:
            mode = path.stat().st_mode
            content = file.read()
    except OSError as error:
        raise StartError(f"OORT_STORE_KEY_FILE: cannot read {path}: {error.strerror}") from error
    if mode & _OTHERS:
        raise StartError(f"OORT_STORE_KEY_FILE: others may read {path}: chmod 600 it")
    return content


def _require_base64(path: Path, key: str) -> None:
    """In the one form that opendal reads: Python also takes what has bits of nothing in its last letter."""
    try:
        is_right = base64.b64encode(base64.b64decode(key, validate=True)).decode() == key
    except (binascii.Error, ValueError):
        is_right = False
    if not is_right:
        raise StartError(f"OORT_STORE_KEY_FILE: the account_key in {path} is none of Azure's: it is Base64")


def _credential(path: Path) -> str:
    """A credential of Google's, as JSON in a file, in Base64."""
    try:
        content = _private(path)
        described = json.loads(content)
        is_right = all(described[name] for name in _GOOGLES[described["type"]])
    except (ValueError, KeyError, TypeError):
        is_right = False
    if not is_right:
        raise StartError(
            f"OORT_STORE_KEY_FILE: {path} holds no credential of Google's that lasts: it is a JSON file whose type is"
            " service_account, with a client_email and a private_key, or external_account"
        )
    return base64.b64encode(content.encode()).decode()
