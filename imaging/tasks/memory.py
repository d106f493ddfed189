"""Memory of a training on the processor: what one step frees, the next one needs again."""

from __future__ import annotations

import ctypes

# malloc.h of the GNU C library.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, so that large tensors come without new pages; whether that was possible.

    Otherwise the C library asks the system for every large tensor and gives it back, and each page is cleared anew:
    of a step on two cores about a sixth (docs/decisions.md). Another C library than GNU's is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
