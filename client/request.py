"""A request for a job as it goes over the wire: the same for submitting, inferring and streaming."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict


class JobFields(TypedDict, total=False):
    """What a job may be given beside its model and prompt; None and a missing one are the same.

    A prompt is a text, or the model's own token ids; `input` is for models that take none, and for chats.
    `expires_in` is in seconds. Whatever is sent again under the same `idempotency_key` makes no second job;
    without one, the client makes one up.
    """

    input: Any
    params: Mapping[str, Any] | None
    priority: str | None
    expires_in: float | None
    metadata: Mapping[str, str] | None
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Body and headers. Sent twice it makes one job, so it may be repeated after a lost answer."""

    body: Mapping[str, Any]
    headers: Mapping[str, str]

    @classmethod
    def of(
        cls,
        model: str,
        prompt: str | Sequence[int] | None,
        fields: JobFields,
        webhook: Mapping[str, Any] | None = None,
    ) -> "JobRequest":
        """Raises `TypeError` for a field that jobs do not have."""
        if unknown := set(fields) - JobFields.__annotations__.keys():
            raise TypeError(f"a job has no {', '.join(sorted(unknown))}")
        given: dict[str, Any] = {**fields}
        key = given.pop("idempotency_key", None) or uuid.uuid4().hex
        body: dict[str, Any] = {
            "model": model,
            "prompt": prompt,
            **given,
            "params": dict(given.get("params") or {}) or None,
            "metadata": dict(given.get("metadata") or {}) or None,
            "webhook": dict(webhook) if webhook is not None else None,
        }
        return cls(
            {name: value for name, value in body.items() if value is not None},
            {"Idempotency-Key": key},
        )
