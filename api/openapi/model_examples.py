"""Examples of models, as `GET /v1/models` tells of them. Tests hold them against their schemas."""

from typing import Any

TEXT_MODEL = "demo-llama"

MODELS: dict[str, Any] = {
    "object": "list",
    "data": [
        {
            "id": TEXT_MODEL,
            "object": "model",
            "created": 1_763_000_000,
            "owned_by": "truthgpt",
            "engine": "text-generation",
            "base": None,
            "device": "cpu",
            "state": "ready",
            "limits": {
                "max_queued": 100000,
                "max_prompt_tokens": 512,
                "max_new_tokens": 512,
                "run_timeout": 300.0,
                "step_timeout": 30.0,
            },
            "context": 1024,
            "batch": {
                "max_size": 32,
                "flush_timeout_ms": 20.0,
                "token_budget": "auto",
                "prefix_reuse": True,
            },
            "workers": [
                {"name": f"infer.{TEXT_MODEL}@host", "state": "ready", "active": 0, "capacity": 32}
            ],
            "queue_depth": 0,
            "running": 0,
            "breaker": {
                "state": "closed",
                "consecutive_failures": 0,
                "successes": 1204,
                "failures": 7,
                "opened": 1,
                "changed_at": "2025-11-22T20:13:09.418Z",
                "until": None,
                "retry_after_ms": 0,
            },
            "fallback": None,
        }
    ],
}

MODEL: dict[str, Any] = {
    **MODELS["data"][0],
    "schemas": {
        "params": {"type": "object", "properties": {"max_new_tokens": {"maximum": 512}}},
        "input": {"type": "string"},
        "output": {"type": "object", "properties": {"text": {"type": "string"}}},
    },
    "parts": None,
}
