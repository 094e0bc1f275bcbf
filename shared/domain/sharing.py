"""Which requests may share one result, and how it is told that two of them ask the same."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.domain import file_inputs
from shared.domain.file_outputs import PARAM
from shared.domain.models.catalog import ModelSpec
from shared.domain.requests.params import ENGINES, TEXT_ENGINES

SPEAKS = frozenset(name for name, kind in ENGINES.items() if kind.streams_text)
"""Engines whose `output.text` is what they have streamed."""
_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")
_NOTHING = {"run_ms": 0, "device_seconds": 0, "attempts": 0}
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class Result:
    """What a job that succeeded brought, as JSON."""

    output: bytes
    usage: bytes

    @property
    def borrowed(self) -> "Result":
        """This result for a job that did not run itself; `borrowed` in outputs.lua makes it in Redis."""
        used = _decode(self.usage) if self.usage else {}
        tokens = {name: used.get(name) for name in _TOKENS}
        tokens["cached_tokens"] = used.get("prompt_tokens")
        return Result(self.output, _encode({**tokens, **_NOTHING}))


@dataclass(frozen=True, slots=True)
class Share:
    """`digest` names what is asked. Its result is kept in Redis for `ttl` whole seconds among the tenant's
    `most`, 0: not there. `speaks`: a text in the output is streamed as well.
    """

    digest: str
    ttl: int
    most: int
    speaks: bool

    @property
    def packed(self) -> tuple[str, bool]:
        """What the script `create` takes: digest, `ttl` and `most` as one text, and `speaks`."""
        return f"{self.digest} {self.ttl} {self.most}", self.speaks


def deterministic(spec: ModelSpec, params: Mapping[str, Any]) -> bool:
    """Whether the same request has the same answer. `params` are checked and have their defaults."""
    if spec.engine in TEXT_ENGINES:
        return params["temperature"] == 0 or params["seed"] is not None
    if spec.engine in file_inputs.ENGINES and params.get(PARAM):
        # Each has files of its own, which may be deleted before the result is forgotten.
        return False
    kind = ENGINES.get(spec.engine)
    return spec.cache.deterministic or (kind is not None and kind.deterministic)


def digest_of(
    tenant: str, spec: ModelSpec, version: str, content: Any, params: Mapping[str, Any]
) -> str:
    """SHA-256, in base64, over all that an answer depends on. A greedy text does not depend on its seed."""
    told = dict(params)
    if spec.engine in TEXT_ENGINES:
        if told["temperature"] == 0:
            del told["seed"]
        if told.get("grammar") is not None:
            # The order of a schema's members is that of the text's.
            told["grammar"] = msgspec.json.encode(told["grammar"]).decode()
        if told.get("max_new_tokens") is None:
            told["limit"] = spec.limits.max_new_tokens
    asked = [tenant, spec.name, version, content, told]
    digest = hashlib.sha256(_encode(asked)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
