"""Tell glibc once to keep freed memory, in huge pages: large activations otherwise cost page faults at every step, and
misses of the table of pages at every access.

Measured together: `python benchmarks/allocator.py`. Other C libraries are left alone.
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_MADV_HUGEPAGE, _HUGE = 14, 2**21  # madvise(2); bytes of such a page, mostly, and a multiple of every small one
HEAP = 8 * 2**30  # bytes of addresses, which cost nothing until they are used; beyond them pages are small


def keep_memory() -> bool:
    """Stop glibc from giving large blocks back to the system; True if it agreed. Where the system leaves it to programs
    to ask for huge pages, ask for them.

    Call before large tensors are made. ``ROBUSTCODEC_KEEP_MEMORY=0`` switches it off.
    """
    if not sys.platform.startswith("linux") or os.environ.get("ROBUSTCODEC_KEEP_MEMORY") == "0":
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        agreed = bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, ctypes.c_int(-1)))
    except (OSError, AttributeError):
        return False
    if agreed:
        _ask_for_huge_pages(libc)
    return agreed


def _ask_for_huge_pages(libc: ctypes.CDLL) -> None:
    """A heap that is grown once, marked, and never trimmed, stays marked; what glibc adds to it later would not be."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    heap = libc.malloc(HEAP)
    if heap is None:  # a limit of addresses, as `ulimit -v` sets it, or less memory than that
        return
    first = -(-heap // _HUGE) * _HUGE
    libc.madvise(first, (heap + HEAP - first) // _HUGE * _HUGE, _MADV_HUGEPAGE)
    libc.free(heap)
