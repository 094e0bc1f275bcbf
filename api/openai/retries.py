"""A client's retry joins the job that its first try made, so that a lost answer does not run twice.

No client of OpenAI's API sends an Idempotency-Key. Each retry is a new POST with the same body, which says by
`x-stainless-retry-count` that it is one. So every job's own key is what was asked by whom, which the last job
that asked it holds; a retry looks there, and a first try takes the key for its own job.
"""

from collections.abc import Mapping
from typing import Any

from shared.domain.records import own_key

RETRY_COUNT = "HTTP_X_STAINLESS_RETRY_COUNT"
JUST_ENDED = 660.0
"""Seconds after a job's end in which a retry joins it: clients wait ten minutes for an answer.

One that was given up (its reader had gone, its deadline passed) is not what the client wants to hear of.
"""
KEY_TTL = 3600
"""Seconds in which a retry finds the job. Clients try again within seconds after a call of ten minutes."""


def is_retry(environ: Mapping[str, Any]) -> bool:
    """Whether a request says that it was sent before."""
    count: str = environ.get(RETRY_COUNT, "")
    return count.isascii() and count.isdigit() and int(count[:9]) > 0


def key(caller: str, path: str, body_digest: str) -> str:
    """The idempotency key of what `caller` (a key's id) asks of `path`."""
    return own_key("openai", f"{caller} {path} {body_digest}")
