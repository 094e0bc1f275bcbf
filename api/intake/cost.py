"""What a request is estimated to cost before it runs: what rate limits and fair shares are charged."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from shared.domain.models.catalog import ModelSpec
from shared.domain.requests.inputs import items_to_embed
from shared.domain.requests.params import ENGINES, TEXT_ENGINES

BYTES_PER_TOKEN = 4
STORED_PER_NEW_TOKEN = 64
"""Bytes of a new token in a job's log, as an event of its own, and in its output."""
STORED_PER_SCORE = 80
"""Bytes of one log-probability in an output, with the text and id of its token."""
STORED_PER_EMBEDDING = 8 * 1024
TOKEN_ENGINES = frozenset(name for name, kind in ENGINES.items() if kind.counts_tokens)


class Cost(NamedTuple):
    """What a job is estimated to cost: tokens, 0 for an engine without; a share of its engine, which is
    charged to its tenant, 1 without tokens; bytes that it may write, 0 where nobody can tell.
    """

    tokens: int
    share: int
    bytes: int


def estimated(spec: ModelSpec, content: Any, params: Mapping[str, Any]) -> Cost:
    """What a request is estimated to cost: pure, by its size and by what was asked for."""
    tokens = _tokens(spec, content, params)
    return Cost(tokens, max(1, tokens), _bytes(spec, content, params))


def _tokens(spec: ModelSpec, content: Any, params: Mapping[str, Any]) -> int:
    """Four bytes of UTF-8 a prompt's token, and as many new ones as were asked for, else as there may be, for
    each text that is to be made. Token ids are as many as they are.
    """
    if spec.engine not in TOKEN_ENGINES:
        return 0
    if spec.engine in TEXT_ENGINES and isinstance(content, list):
        return len(content) + _new_tokens(spec, params)
    if spec.engine == "embedding" and isinstance((items := items_to_embed(content))[0], list):
        return sum(map(len, items))
    size = len(content.encode() if isinstance(content, str) else msgspec.json.encode(content))
    prompt = -(-size // BYTES_PER_TOKEN)
    if spec.engine not in TEXT_ENGINES:
        return prompt
    return prompt + _new_tokens(spec, params)


def _bytes(spec: ModelSpec, content: Any, params: Mapping[str, Any]) -> int:
    """By what was asked for, else by the model's limit."""
    if spec.engine in TEXT_ENGINES:
        scores = 1 + int(params.get("top_logprobs") or 0) if params.get("logprobs") else 0
        new = _new_tokens(spec, params) * (STORED_PER_NEW_TOKEN + scores * STORED_PER_SCORE)
        # The first of several texts stands in the output twice.
        return new if _choices(params) == 1 else new + new // _choices(params)
    if spec.engine == "embedding":
        return STORED_PER_EMBEDDING * len(items_to_embed(content))
    # It tells its input, once in the log and once in the output.
    return 2 * len(content) if spec.engine == "echo" and isinstance(content, str) else 0


def _new_tokens(spec: ModelSpec, params: Mapping[str, Any]) -> int:
    """Tokens that a job may make at the most, over all of its `n` texts."""
    return _choices(params) * int(params.get("max_new_tokens") or spec.limits.max_new_tokens)


def _choices(params: Mapping[str, Any]) -> int:
    return int(params.get("n") or 1)
