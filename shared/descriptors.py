"""Room for many sockets in one process: the limit of open files, which a shell often sets to 1,024."""

import resource


def allow(files: int) -> int:
    """Raise this process' limit to `files` where it is lower, as far as it may.

    Returns how many files it may have open then.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
