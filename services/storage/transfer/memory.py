"""How the C library keeps the memory of frames.

Kept true: a frame that was freed is the next one's memory, without asking the system for pages and clearing them again;
what is kept beyond that is bounded, however many streams there were.
"""

import ctypes

# Parameters of mallopt(3), as malloc.h numbers them
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_ARENAS = 2  # gRPC's threads and ours seldom wait for each other so
_LARGE = 32 << 20  # more than any frame
_KEPT = 32 << 20  # at the end of each arena


def keep_frames() -> None:
    """Set the C library up, before the first thread starts.

    256 MiB of packs put by one client: 1.4 CPU seconds and 4,000 page faults instead of 2.2 and 63,000, in less memory.
    Other C libraries than glibc have no such call, and need none.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
