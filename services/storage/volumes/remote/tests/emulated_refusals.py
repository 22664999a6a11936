"""Stores that a node refuses, on emulators, for `make campaign-clouds`: each says why, and no secret."""

import base64
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from clouds.testing.emulators import Emulator, azure, google, s3, seaweedfs
from services.common.errors import StartError
from services.storage.tests.kept import HASTY, on_emulator
from services.storage.volumes.remote.address import StoreAddress
from services.storage.volumes.remote.keys import StoreKey
from services.storage.volumes.remote.spool import Spool
from services.storage.volumes.remote.store import Store
from services.storage.volumes.remote.volume import RemoteVolume

NO_KEY = "enF4LXNlY3JldC1vZi1hLXN0b3Jl"  # in Base64, as Azure's are
CREDENTIAL = {"type": "service_account", "client_email": "node@example.org", "private_key": NO_KEY}
WRONG = {
    "azblob": {"account_name": "anaccount", "account_key": NO_KEY},
    "gcs": {"credential": base64.b64encode(json.dumps(CREDENTIAL).encode()).decode()},
    "s3": {"access_key_id": "AKIDEXAMPLE", "secret_access_key": NO_KEY},
}


@contextmanager
def refused(emulator: Emulator, key: StoreKey, folder: Path, said: str) -> Iterator[str]:
    """A node that is to start there: answers all that it says."""
    store = Store(StoreAddress.parse(emulator.address(folder.name)), key, "a", HASTY)
    with closing(store), closing(Spool(folder / "spool", "a", 0)) as spool, capture_logs() as logs:
        with pytest.raises(StartError, match=said) as refusal:
            RemoteVolume(store, spool, "a", 1 << 40, cluster="local")
        yield f"{refusal.value} {logs}"


@pytest.mark.parametrize(
    ("emulator", "said"),
    [(azure, "key"), (google, "look at the credential"), (s3, "key"), (seaweedfs, "key")],
    indirect=["emulator"],
    ids=["azure", "google", "s3", "seaweedfs"],
    scope="session",
)
def test_a_store_that_does_not_know_the_key_ends_the_start(emulator: Emulator, said: str, tmp_path: Path) -> None:
    key = StoreKey(WRONG[emulator.scheme])
    with refused(emulator, key, tmp_path, said) as told:
        assert NO_KEY not in told
        assert not any(
            secret in told for name, secret in key.settings.items() if name not in ("account_name", "access_key_id")
        )


@pytest.mark.parametrize("emulator", [s3], indirect=True, ids=["s3"], scope="session")
def test_a_store_that_passes_over_the_condition_is_refused(emulator: Emulator, tmp_path: Path) -> None:
    with on_emulator(emulator, tmp_path.name, tmp_path) as kept:
        key = StoreKey.read(kept.key_file, emulator.scheme)
        with refused(emulator, key, tmp_path, r"replaces an object .* \(If-None-Match: \*\)") as told:
            assert emulator.secret not in told


@pytest.mark.parametrize("emulator", [seaweedfs], indirect=True, ids=["seaweedfs"], scope="session")
def test_a_store_that_keeps_folders_is_refused(emulator: Emulator, tmp_path: Path) -> None:
    with on_emulator(emulator, tmp_path.name, tmp_path) as kept:
        key = StoreKey.read(kept.key_file, emulator.scheme)
        with refused(emulator, key, tmp_path, "keeps a folder of which nothing is left") as told:
            assert emulator.secret not in told
