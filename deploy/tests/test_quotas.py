"""`oort quota` on a running stack."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import grpc
import pytest
from oort.storage.v1 import regions_pb2, regions_pb2_grpc

from client.errors import ServerUnreachable
from deploy.driver import Operator
from deploy.local.certificates import CertificateAuthority
from deploy.local.folder import StackFolder
from deploy.local.regions import Region
from deploy.tests.end_to_end.conftest import a_device
from deploy.tests.here import Here


@pytest.fixture
def oort() -> Here:
    return Here("oort")


def test_a_group_of_vaults_that_is_full_takes_no_more_and_goes_on_when_it_may(
    stack: Operator, oort: Here, tmp_path: Path
) -> None:
    device = a_device(stack, tmp_path / "home")
    bucket = device.recovery("main")["bucket"]
    rows = oort.ok("bucket", "list", "--json", "--data", str(stack.data), codes=(0, 8)).json()
    [tenant] = {row["tenant"] for row in rows if row["id"] == bucket}
    source = tmp_path / "source"
    source.mkdir()
    (source / "a file").write_bytes(bytes(range(256)) * 1000)
    data = ("--data", str(stack.data))

    oort.ok("quota", "group", bucket, "photos", *data)
    rows = oort.ok("bucket", "list", "--json", *data, codes=(0, 8)).json()
    assert {row["quota_group"] for row in rows if row["id"] == bucket} == {"photos"}
    oort.ok("quota", "set", tenant, "1K", "--name", "photos", *data)
    assert device.tool.run("backup", str(source), "--vault", "main").code == 7
    [quota] = [one for one in oort.ok("quota", "list", "--json", *data).json() if one["name"] == "photos"]
    assert (quota["tenant"], quota["bytes"]) == (tenant, 1024)
    assert quota["used_bytes"] <= 1024
    assert "photos" in oort.ok("quota", "list", *data).stdout

    oort.ok("quota", "set", tenant, "0", "--name", "photos", *data)
    device.backup("main", source)


def test_what_cannot_be_meant_is_refused(stack: Operator, oort: Here) -> None:
    data = ("--data", str(stack.data))
    tenant = str(UUID(int=7))
    for arguments in (
        ("set", tenant, "much"),
        ("set", tenant, "9999999T"),
        ("set", "nobody", "1G"),
        ("set", tenant, "1G", "--name", "a/b"),
    ):
        assert oort.run("quota", *arguments, *data).code == 2, arguments
    assert oort.run("quota", "group", tenant, "photos", *data).code == 6


def test_a_vault_may_have_more_or_less_than_its_template_said(stack: Operator, oort: Here, tmp_path: Path) -> None:
    device = a_device(stack, tmp_path / "home")
    bucket = device.recovery("main")["bucket"]
    source = tmp_path / "source"
    source.mkdir()
    (source / "a file").write_bytes(bytes(range(256)) * 1000)
    data = ("--data", str(stack.data))

    oort.ok("bucket", "quota", bucket, "1K", *data)
    rows = oort.ok("bucket", "list", "--json", *data, codes=(0, 8)).json()
    assert [row["quota_bytes"] for row in rows if row["id"] == bucket] == [1024]
    assert device.tool.run("backup", str(source), "--vault", "main").code == 7
    assert "before: 1.0 KiB" in oort.ok("bucket", "quota", bucket, "0", *data).stdout
    device.backup("main", source)


def test_whoever_sets_the_quota_of_a_vault_is_told_which_cluster_follows_it_and_keeps_its_own(
    stack: Operator, oort: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = a_device(stack, tmp_path / "home").recovery("main")["bucket"]
    data = ("--data", str(stack.data))
    assert oort.ok("bucket", "quota", bucket, "1G", *data).stderr == ""
    folder, now = StackFolder.find(stack.data), datetime.now(UTC)
    authority = CertificateAuthority.open(folder.certificates, now)
    own = authority.certificate("storage", "far-1", now)
    credentials = grpc.ssl_channel_credentials(
        authority.ca.read_bytes(), own.key.read_bytes(), own.certificate.read_bytes()
    )
    look = regions_pb2.LookRequest(bucket_id=bucket, cluster="far", endpoints=["localhost:1"])
    with grpc.secure_channel(folder.load().nodes[0].internal, credentials) as channel:
        regions_pb2_grpc.RegionServiceStub(channel).Look(look, timeout=60)
    told = oort.ok("bucket", "quota", bucket, "2G", *data)
    assert "Quota of the bucket: 2.0 GiB" in told.stdout
    assert told.stderr.startswith("oort: cluster far follows the bucket and keeps the quota that it has there")
    assert told.stderr.count("\n") == 1

    def refused(*_: object) -> None:
        raise ServerUnreachable(server="node-a", reason="no answer")

    monkeypatch.setattr(Region, "status", refused)
    told = oort.run("bucket", "quota", bucket, "3G", *data)
    assert told.code == ServerUnreachable.exit_code
    assert "Quota of the bucket: 3.0 GiB; before: 2.0 GiB" in told.stdout, "it is set all the same"


def test_the_quota_of_no_bucket_is_not_set(stack: Operator, oort: Here) -> None:
    data = ("--data", str(stack.data))
    nowhere = str(UUID(int=7))
    assert oort.run("bucket", "quota", nowhere, "1G", *data).code == 6
    assert oort.run("bucket", "quota", "nothing", "1G", *data).code == 2
    assert oort.run("bucket", "quota", nowhere, "-1", *data).code == 2


def test_a_tenant_of_no_bucket_is_told_as_its_id_may_be_wrong(stack: Operator, oort: Here) -> None:
    data = ("--data", str(stack.data))
    nobody = str(UUID(int=8))
    told = oort.ok("quota", "set", nobody, "1G", *data)
    assert nobody in told.stderr
    assert not oort.ok("quota", "set", nobody, "0", *data).stderr
