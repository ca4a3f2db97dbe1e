"""The C library's allocator, told what a process of this house is like."""

import ctypes

M_MMAP_THRESHOLD = -3  # mallopt(3)
LARGE_BYTES = 128 * 1024  # glibc's own start
FREE_BYTES = 32 * 1024 * 1024  # kept at most: what is freed below LARGE_BYTES stays in the heap


def give_back_large_blocks() -> bool:
    """Blocks from 128 KiB on go back to the system when they are freed; false: this is not glibc.

    By itself glibc raises that limit to the largest block that was ever freed, and keeps what is
    smaller in the heap of each thread. Where threads come and go with records of megabytes, as with
    every search in Kafka's topics, a process so grew by megabytes a search.
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
    """Return the free parts of the heaps to the system if they are large; false: nothing was to do.

    A burst of requests leaves hundreds of megabytes there, between the few things that stay.
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
