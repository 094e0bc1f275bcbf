"""Room for many sockets in one process."""

import resource

OTHERS = 256
"""Files and sockets beside those that are asked for."""


def allow_many(sockets: int) -> None:
    """Raise this process' limit of open files where it is too low. Raises `OSError` where it cannot be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sockets + OTHERS
    if soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise OSError(f"{sockets} sockets need {wanted} open files; the limit is {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
