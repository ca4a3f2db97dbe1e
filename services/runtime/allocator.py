"""The C library's allocator, told what a process of this house is like."""

import ctypes

M_MMAP_THRESHOLD = -3  # mallopt(3)
LARGE_BYTES = 128 * 1024  # glibc's own start


def give_back_large_blocks() -> bool:
    """Blocks from 128 KiB on go back to the system when they are freed; false: this is not glibc.

    By itself glibc raises that limit to the largest block that was ever freed, and keeps what is
    smaller in the heap of each thread. Where threads come and go with records of megabytes, as with
    every search in Kafka's topics, a process so grew by megabytes a search.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_MMAP_THRESHOLD, LARGE_BYTES) == 1
