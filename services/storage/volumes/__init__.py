"""Where bodies lie: disks and prefixes of object stores, what is on them, and reading and placing there."""
