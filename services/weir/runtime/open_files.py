"""The system's limit of open files: each connection is one."""

import resource


def raise_open_files(wanted: int) -> int:
    """Raise the process's limit to `wanted` if it is lower and may be raised; return what is in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return raised
