"""Which form a model writes its calls of tools in, and what reads it."""

from typing import Any, Literal

from shared.grammars.calls import MARK, OPEN, Form
from workers.engines.texts.messages.calls import BareCalls, Calls, MarkedCalls, TaggedCalls
from workers.engines.texts.messages.harmony import CHANNEL
from workers.engines.texts.messages.sectioned_calls import (
    DEEPSEEK,
    DSML_SECTION,
    KIMI,
    MINIMAX_SECTION,
    DeepSeekCalls,
    DSMLCalls,
    KimiCalls,
    MiniMaxCalls,
)

Tagged = Form | Literal["deepseek", "kimi", "minimax", "dsml"]
"""Calls that stand in what is said."""
Written = Tagged | Literal["harmony"]
"""In harmony a call is a message of its own."""
CALLS: dict[Tagged, type[Calls]] = {
    "hermes": TaggedCalls,
    "llama": BareCalls,
    "mistral": MarkedCalls,
    "deepseek": DeepSeekCalls,
    "kimi": KimiCalls,
    "minimax": MiniMaxCalls,
    "dsml": DSMLCalls,
}
_SHOWN: tuple[tuple[str, Written], ...] = (
    (CHANNEL, "harmony"),
    (DSML_SECTION.section, "dsml"),
    (MINIMAX_SECTION.section, "minimax"),
    (DEEPSEEK.section, "deepseek"),
    (KIMI.section, "kimi"),
    (OPEN, "hermes"),
    (MARK, "mistral"),
    ("python_tag", "llama"),
    ('"parameters"', "llama"),
)
"""What a chat template shows of each form, the surest first."""


def form_of(template: Any) -> Written:
    """How a model writes calls, by what its chat template shows; as Hermes and Qwen where it shows none."""
    source = str(template or "")
    return next((form for shown, form in _SHOWN if shown in source), "hermes")


def forced_form(written: Written) -> Form:
    """How such a model is made to write a call that it must make: its own form where a grammar is made of it,
    else that of Hermes.
    """
    return written if written in ("hermes", "llama", "mistral") else "hermes"
