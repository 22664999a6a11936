"""A vault as a read-only file system of Linux, by the kernel's FUSE protocol (docs/decisions/mount.md)."""
