"""Requests and answers of this dialect, for the OpenAPI document and its tests."""

from typing import Any

from api.openapi.examples import EMBEDDING_MODEL, RANKING_MODEL
from api.openapi.model_examples import TEXT_MODEL

_MESSAGES = [{"role": "user", "content": "What is a generator?"}]
_ID = "019aa61c4f3b8f0e3c5d7a9b1e2f4a6c"
_USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 8,
    "total_tokens": 20,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}

CHATS: dict[str, Any] = {
    "chat": {"model": TEXT_MODEL, "messages": _MESSAGES, "max_completion_tokens": 32},
    "stream": {
        "model": TEXT_MODEL,
        "messages": _MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.2,
        "seed": 7,
    },
}
CHAT_COMPLETION: dict[str, Any] = {
    "id": f"chatcmpl-{_ID}",
    "object": "chat.completion",
    "created": 1_763_847_900,
    "model": TEXT_MODEL,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "A function that yields.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": _USAGE,
    "service_tier": "default",
    "system_fingerprint": None,
}
COMPLETIONS: dict[str, Any] = {
    "text": {"model": TEXT_MODEL, "prompt": "The function returns", "max_tokens": 16},
}
COMPLETION: dict[str, Any] = {
    "id": f"cmpl-{_ID}",
    "object": "text_completion",
    "created": 1_763_847_900,
    "model": TEXT_MODEL,
    "choices": [{"index": 0, "text": " a list.", "logprobs": None, "finish_reason": "stop"}],
    "usage": _USAGE,
    "system_fingerprint": None,
}
EMBEDDED: dict[str, Any] = {
    "texts": {"model": EMBEDDING_MODEL, "input": ["first text", "second text"]},
}
EMBEDDINGS: dict[str, Any] = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, -0.2]}],
    "model": EMBEDDING_MODEL,
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}
RERANKED: dict[str, Any] = {
    "documents": {"model": RANKING_MODEL, "query": "What is a generator?", "documents": ["…", "…"]},
}
RANKING: dict[str, Any] = {
    "id": f"rerank-{_ID}",
    "model": RANKING_MODEL,
    "results": [{"index": 1, "relevance_score": 0.98}],
    "usage": {"prompt_tokens": 24, "total_tokens": 24},
}

FILE_ID = "file-019aa61c4f3b8f0e3c5d7a9b1e2f4a6c"
UPLOADS: dict[str, Any] = {
    "batch": {"purpose": "batch", "file": '{"custom_id": "1", "method": "POST", …}'},
}
FILE: dict[str, Any] = {
    "id": FILE_ID,
    "object": "file",
    "bytes": 1234,
    "created_at": 1_763_847_900,
    "expires_at": 1_766_439_900,
    "filename": "requests.jsonl",
    "purpose": "batch",
    "status": "processed",
    "status_details": None,
}
FILES: dict[str, Any] = {
    "object": "list",
    "data": [FILE],
    "first_id": FILE_ID,
    "last_id": FILE_ID,
    "has_more": False,
}
DELETED_FILE: dict[str, Any] = {"id": FILE_ID, "object": "file", "deleted": True}

BATCH_ID = "batch_019aa61c4f3b8f0e3c5d7a9b1e2f4a6c"
BATCHED: dict[str, Any] = {
    "chats": {
        "input_file_id": FILE_ID,
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"of": "tonight"},
    },
}
BATCH: dict[str, Any] = {
    "id": BATCH_ID,
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "errors": None,
    "input_file_id": FILE_ID,
    "completion_window": "24h",
    "status": "in_progress",
    "output_file_id": None,
    "error_file_id": None,
    "created_at": 1_763_847_900,
    "expires_at": 1_763_934_300,
    "in_progress_at": 1_763_847_901,
    "finalizing_at": None,
    "completed_at": None,
    "failed_at": None,
    "expired_at": None,
    "cancelling_at": None,
    "cancelled_at": None,
    "request_counts": {"total": 1000, "completed": 12, "failed": 0},
    "metadata": {"of": "tonight"},
}
CANCELLING_BATCH = {**BATCH, "status": "cancelling", "cancelling_at": 1_763_847_960}
BATCHES: dict[str, Any] = {
    "object": "list",
    "data": [BATCH],
    "first_id": BATCH_ID,
    "last_id": BATCH_ID,
    "has_more": False,
}
