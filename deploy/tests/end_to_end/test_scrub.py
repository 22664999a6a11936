"""`oort bucket scrub` and `list` on a running stack: rot that nobody has read is healed, or told and stored again."""

import os
from pathlib import Path

from client.testing.damage import flip
from deploy.driver import Device, Operator
from deploy.tests.end_to_end.trees import restored
from deploy.tests.end_to_end.waiting import wait_for_copies_of

_LARGE = 100_000


def test_rot_is_healed_and_what_cannot_be_healed_is_stored_again_by_the_next_backup(
    stack: Operator, device: Device, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    for place in ("file", "deep/er/other"):
        (source / place).write_bytes(os.urandom(_LARGE))
    device.backup("main", source)
    bucket = device.recovery("main")["bucket"]
    wait_for_copies_of(stack, bucket)
    folders = stack.bucket_folders(bucket)
    assert len(folders) == 2
    packs = [path.relative_to(folders[0]) for path in folders[0].glob("data/*/*") if path.stat().st_size > _LARGE // 2]
    data = ("--data", str(stack.data))

    def bucket_now() -> dict[str, object]:
        rows = stack.oort.ok("bucket", "list", "--json", *data, codes=(0, 8)).json()
        (row,) = [row for row in rows if row["id"] == bucket]
        return dict(row)

    flip(folders[0] / packs[0], folders[0] / packs[0])
    said = stack.oort.ok("bucket", "scrub", bucket, *data).stdout
    assert "damaged: 1." in said
    assert "All are healed." in said
    assert (folders[0] / packs[0]).read_bytes() == (folders[1] / packs[0]).read_bytes()

    for folder in folders:
        for pack in packs:
            flip(folder / pack, folder / pack)
    found = stack.oort.ok("bucket", "scrub", bucket, "--json", *data, codes=(8,)).json()
    # Whoever is asked for a copy that it has not read yet finds out as well that it is damaged.
    assert len(packs) <= found["damaged"] <= 2 * len(packs)
    assert found["lost_objects"] == len(packs)
    assert found["buckets_with_losses"] == {bucket: len(packs)}
    assert bucket_now()["lost_objects"] == len(packs)
    assert stack.oort.run("bucket", "list", *data).code == 8

    # Nothing of the source has changed, and no command of this device has met the damage.
    device.backup("main", source)
    target = tmp_path / "target"
    device.restore("main", target)
    for place in ("file", "deep/er/other"):
        assert (restored(target, source) / place).read_bytes() == (source / place).read_bytes()


def test_a_bad_bucket_is_one_clear_line(stack: Operator) -> None:
    data = ("--data", str(stack.data))
    for arguments, code in (
        (("scrub",), 2),
        (("scrub", "x", "--all"), 2),
        (("scrub", "x"), 2),
        (("scrub", "019aaf00-0000-7000-8000-000000000000"), 6),
    ):
        refused = stack.oort.run("bucket", *arguments, *data)
        assert refused.code == code, refused.stderr
        assert len(refused.stderr.splitlines()) == 1
