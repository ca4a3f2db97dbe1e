"""The operating system's limit on open files: each connection counts as one."""

import resource


def raise_open_files(wanted: int) -> int:
    """Raise the process's limit to `wanted` if it is lower, as far as allowed; return what is usable of `wanted`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return raised
