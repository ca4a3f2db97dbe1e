"""Settings of glibc's memory allocator for Weir's processes."""

import ctypes

M_MMAP_THRESHOLD = -3  # mallopt(3)
LARGE_BYTES = 128 * 1024  # glibc's own initial value
# Free heap memory to keep at most: freed blocks smaller than LARGE_BYTES stay in the heap.
FREE_BYTES = 32 * 1024 * 1024


def give_back_large_blocks() -> bool:
    """Make freed blocks of 128 KiB or more go back to the system; return False if this is not glibc.

    By default glibc raises that limit to the largest block that was ever freed, and keeps smaller blocks
    in the heap of each thread. With short-lived threads that hold records of megabytes, as in every search
    of Kafka topics, a process grew by megabytes per search.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_MMAP_THRESHOLD, LARGE_BYTES) == 1


class _Info(ctypes.Structure):
    """`struct mallinfo2` of mallinfo2(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    )  # fmt: skip


def give_back_free_heap() -> bool:
    """Return free heap memory to the system if it exceeds FREE_BYTES; return whether that was done.

    A burst of requests leaves hundreds of megabytes free between the few blocks that are still in use.
    """
    libc = ctypes.CDLL(None)
    mallinfo2 = getattr(libc, "mallinfo2", None)  # glibc 2.33
    if mallinfo2 is None:
        return False
    mallinfo2.restype = _Info
    if mallinfo2().fordblks <= FREE_BYTES:
        return False
    libc.malloc_trim(0)
    return True
