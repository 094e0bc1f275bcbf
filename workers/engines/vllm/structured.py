"""A job's grammar as vLLM's structured outputs, which its backend "guidance" enforces by llguidance too."""

from collections.abc import Mapping
from typing import Any

from shared.domain.errors import InputRefused
from shared.grammars.calls import calls_lark
from shared.grammars.json_schemas import enforceable_schema, with_guidance
from shared.grammars.patterns import PatternRefused, enforceable
from shared.grammars.refusal import GrammarRefused

SETTINGS: dict[str, Any] = {"backend": "guidance", "disable_any_whitespace": True}
"""vLLM's `structured_outputs_config`: its other backends take keywords that they do not enforce."""


def structured(grammar: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of vLLM's `StructuredOutputsParams`. Raises `InputRefused` for what cannot be enforced."""
    try:
        if (schema := grammar.get("json_schema")) is not None:
            return {"json": with_guidance(enforceable_schema(schema, ("json_schema",)))}
        if (pattern := grammar.get("regex")) is not None:
            checked = enforceable(pattern, whole=True)
            return {"regex": checked.removeprefix("^").removesuffix("$")}
        if (calls := grammar.get("calls")) is not None:
            return {"grammar": calls_lark(calls)}
    except GrammarRefused as refused:
        raise InputRefused(refused.detail, code=refused.code) from None
    except PatternRefused as error:
        raise InputRefused(f"regex: {error}", code=GrammarRefused.code) from None
    if (choices := grammar.get("choices")) is not None:
        return {"choice": list(choices)}
    return {"grammar": grammar["lark"]}
