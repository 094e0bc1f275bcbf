"""A model of the catalogue as the server reports it, and whether the server can serve at all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SERVING = frozenset({"ready", "busy"})


@dataclass(frozen=True, slots=True)
class Model:
    """`workers` counts those alive now. `state` is that of the best of them: ready, busy, starting,
    unhealthy or failed; offline where there is none.
    """

    name: str
    engine: str
    device: str | None
    state: str
    workers: int
    queue_depth: int
    raw: Mapping[str, Any] = field(repr=False)
    """The JSON object as it came."""

    @property
    def serving(self) -> bool:
        return self.state in SERVING

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> "Model":
        """From the API's JSON. Fields that this version does not know stay in `raw`."""
        return cls(
            name=value["id"],
            engine=value["engine"],
            device=value.get("device"),
            state=value["state"],
            workers=len(value.get("workers") or ()),
            queue_depth=value.get("queue_depth", 0),
            raw=value,
        )


@dataclass(frozen=True, slots=True)
class Readiness:
    """`detail` says what is missing where `ok` is false."""

    ok: bool
    detail: str
