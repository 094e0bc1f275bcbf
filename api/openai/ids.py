"""Ids of the dialect's objects: that of the job, behind OpenAI's prefix."""


def named(prefix: str, job_id: str) -> str:
    """`chatcmpl-…` for `job_…`."""
    return prefix + job_id.removeprefix("job_")


def created(job_id: str) -> int:
    """When a job's id was made, in seconds since 1970: its first 48 bits are that in milliseconds."""
    return int(job_id.removeprefix("job_")[:12], 16) // 1000
