"""Requests and answers of Responses, for the OpenAPI document and its tests."""

from typing import Any

from api.openapi.model_examples import TEXT_MODEL

_HEX = "019aa61c4f3b8f0e3c5d7a9b1e2f4a6c"
ID = f"resp_{_HEX}"
REQUESTS: dict[str, Any] = {
    "text": {"model": TEXT_MODEL, "input": "What is a generator?", "max_output_tokens": 32},
    "background": {
        "model": TEXT_MODEL,
        "instructions": "Answer in one sentence.",
        "input": [{"role": "user", "content": "What is a generator?"}],
        "background": True,
        "max_output_tokens": 32,
    },
}
RESPONSE: dict[str, Any] = {
    "id": ID,
    "object": "response",
    "created_at": 1_763_847_900,
    "completed_at": 1_763_847_901,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": TEXT_MODEL,
    "output": [
        {
            "id": f"msg_{_HEX}_0",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [
                {
                    "type": "output_text",
                    "text": "A function that yields.",
                    "annotations": [],
                    "logprobs": [],
                }
            ],
        }
    ],
    "usage": {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 20,
    },
    "metadata": {},
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "service_tier": "default",
    "previous_response_id": None,
    "background": False,
}
DELETED: dict[str, Any] = {"id": ID, "object": "response", "deleted": True}
INPUT_ITEMS: dict[str, Any] = {
    "object": "list",
    "data": [
        {
            "id": f"msg_{_HEX}_i0",
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "What is a generator?"}],
            "status": "completed",
        }
    ],
    "first_id": f"msg_{_HEX}_i0",
    "last_id": f"msg_{_HEX}_i0",
    "has_more": False,
}
