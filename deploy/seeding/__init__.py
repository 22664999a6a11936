"""Vaults that go in and out of a cluster on disks: a bucket as a restic repository's folder, and the way back."""
