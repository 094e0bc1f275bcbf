"""What of a request one model can make use of: known before the request is stored, by its workers' reports.

The engine checks the same once more, in the same words, for who asks while no worker lives.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from shared.domain.errors import InputRefused

CHAT_PARTS = ("messages", "tools", "tool_calls", "documents")
"""What of a chat a template may show."""


class Accepted(msgspec.Struct, frozen=True):
    """`vocabulary`: how many token ids the model has. `chat`: those of `CHAT_PARTS` that its chat template
    shows; none where it has no template.
    """

    vocabulary: int
    chat: tuple[str, ...] = ()

    def check(self, content: Any, params: Mapping[str, Any]) -> None:
        """Raise `InputRefused` for a request that the model cannot do."""
        if isinstance(content, list):
            self.check_ids(content, "The prompt")
        elif isinstance(content, Mapping):
            self._check_chat(content)
        self.check_ids(params.get("stop_token_ids") or (), "stop_token_ids")
        if bias := params.get("logit_bias"):
            self.check_ids([int(name) for name in bias], "logit_bias")

    def check_ids(self, ids: Collection[int], where: str) -> None:
        """Raise `InputRefused` for token ids that the model does not have."""
        if ids and (min(ids) < 0 or max(ids) >= self.vocabulary):
            raise InputRefused(
                f"{where} has tokens outside the model's vocabulary of {self.vocabulary}."
            )

    def _check_chat(self, chat: Mapping[str, Any]) -> None:
        if "messages" not in self.chat:
            raise InputRefused("This model has no chat template; give it a prompt.")
        messages = chat.get("messages")
        calls = isinstance(messages, list) and any(
            isinstance(message, Mapping) and message.get("tool_calls") for message in messages
        )
        for part, asked in (
            ("tools", bool(chat.get("tools"))),
            ("tool_calls", calls),
            ("documents", bool(chat.get("documents"))),
        ):
            if asked and part not in self.chat:
                raise InputRefused(
                    f"This model's chat template shows no {part}: the model would not know of them."
                )


def accepted_by(report: Mapping[str, Any]) -> Accepted | None:
    """What a worker's report says, None where it says nothing that can be read."""
    engine = report.get("engine")
    told = engine.get("accepted") if isinstance(engine, Mapping) else None
    try:
        return msgspec.convert(told, Accepted) if told else None
    except msgspec.ValidationError:
        return None
