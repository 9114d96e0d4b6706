"""Keeps freed memory in the process, so that large temporaries are not fetched from the kernel at every operation.

The C library of Linux (glibc) maps every large block anew and hands it back as soon as it is freed. A network frees and
asks for the same few megabytes thousands of times a second, and each time the kernel fills the pages with zeros again:
a third of the time of pricing a small diffusion model.
"""

import ctypes
import os

SWITCH = "ZOO_KEEP_MEMORY"
"""Environment variable; 0 leaves the allocator as it is."""
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of the two settings in malloc.h


def tune_allocator() -> bool:
    """Tell the C library to keep what is freed; every command of the zoo calls this before it loads torch.

    Costs memory: the process keeps its largest size until it ends. Has no effect on results. Nothing happens on
    systems without `mallopt` (macOS, Windows, musl), if `ZOO_KEEP_MEMORY=0`, or if `GLIBC_TUNABLES` already speaks of
    malloc.

    Returns:
        Whether the allocator was changed.

    Example:
        >>> import zoo
        >>> changed = zoo.tune_allocator()
    """
    if os.environ.get(SWITCH) == "0" or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # No block of its own mapping for large requests, and no memory given back from the end of the heap.
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))
