"""What a job used, as OpenAI counts it."""

from collections.abc import Mapping
from typing import Any


def usage(used: Mapping[str, Any]) -> dict[str, Any]:
    """Of chats and completions. `used` is the native usage; a count that is not known is 0."""
    prompt, completion = used.get("prompt_tokens") or 0, used.get("completion_tokens") or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": used.get("cached_tokens") or 0},
        "completion_tokens_details": {"reasoning_tokens": used.get("reasoning_tokens") or 0},
    }
