"""What the process does with memory that it is done with."""

from __future__ import annotations

import ctypes
import functools
import sys

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_LARGE_BYTES = 2**20


def return_large_blocks() -> None:
    """Give every freed block of 1 MB or more back to the system at once; does nothing where glibc is missing.

    By default glibc raises that limit to 32 MB as it meets large blocks. Frames and the model's intermediate
    results then share one heap with small things that live long, and the gaps between them add up: gigabytes
    over a long video, and as much as the model itself over a short one. It holds for the whole process and
    cannot be undone, so it is left to the reading of videos, which needs it; large blocks of other code then
    cost a few microseconds more to get.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def return_freed_blocks() -> None:
    """Give what is freed by now back to the system, a matter of milliseconds; nothing where glibc is missing.

    Reading a video leaves tens of megabytes of small blocks behind in the heaps of the decoder's threads.
    """
    if sys.platform != "linux":
        return
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@functools.cache
def _libc() -> ctypes.CDLL:
    # Once: each of these is a ring of objects that only the garbage collector takes apart.
    return ctypes.CDLL(None)
