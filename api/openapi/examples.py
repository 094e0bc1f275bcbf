"""Example requests and answers for the OpenAPI document. Tests hold them against their schemas.

They name a model of each kind; `api.openapi.example_models` puts the catalogue's own in their place.
"""

from typing import Any

from api.openapi.model_examples import MODELS, TEXT_MODEL

EMBEDDING_MODEL = "all-minilm"
ECHO_MODEL = "echo"
RANKING_MODEL = "my-ranker"
OWN_MODEL = "my-model"

_ID = "job_019aa61c4f3b8f0e3c5d7a9b1e2f4a6c"
_URL = f"http://127.0.0.1:8080/v1/jobs/{_ID}"

REQUESTS: dict[str, Any] = {
    "prompt": {"model": TEXT_MODEL, "prompt": "The function returns"},
    "sampled": {
        "model": TEXT_MODEL,
        "prompt": "The function returns",
        "params": {"max_new_tokens": 64, "temperature": 0.8, "top_p": 0.95, "seed": 7},
        "priority": "high",
        "expires_in": 600,
        "metadata": {"order": "4711"},
    },
    "logprobs": {
        "model": TEXT_MODEL,
        "prompt": "The function returns",
        "params": {
            "max_new_tokens": 16,
            "temperature": 0.8,
            "min_p": 0.05,
            "presence_penalty": 0.5,
            "frequency_penalty": 0.2,
            "logprobs": True,
            "top_logprobs": 2,
        },
    },
    "chat": {
        "model": TEXT_MODEL,
        "input": {"messages": [{"role": "user", "content": "What is a generator?"}]},
    },
    "several": {
        "model": TEXT_MODEL,
        "prompt": "The function returns",
        "params": {"max_new_tokens": 16, "temperature": 0.8, "n": 3, "seed": 7},
    },
    "tokens": {
        "model": TEXT_MODEL,
        "prompt": [87, 412, 9, 301],
        "params": {
            "max_new_tokens": 16,
            "min_tokens": 4,
            "logit_bias": {"301": -100},
            "bad_words": ["return"],
        },
    },
    "tools": {
        "model": TEXT_MODEL,
        "input": {
            "messages": [
                {"role": "developer", "content": "Answer in one word."},
                {"role": "user", "content": [{"type": "text", "text": "How is the weather?"}]},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "weather",
                        "description": "The weather in a city, now.",
                        "parameters": {
                            "type": "object",
                            "properties": {"city": {"type": "string"}},
                            "required": ["city"],
                        },
                    },
                }
            ],
            "chat_template_kwargs": {"enable_thinking": False},
        },
    },
    "webhook": {
        "model": TEXT_MODEL,
        "prompt": "The function returns",
        "webhook": {"url": "https://example.com/hooks/inference", "events": ["completed"]},
    },
    "embedding": {"model": EMBEDDING_MODEL, "input": ["first text", "second text"]},
    "ranking": {
        "model": RANKING_MODEL,
        "input": {"query": "What is a generator?", "documents": ["first text", "second text"]},
    },
    "echo": {"model": ECHO_MODEL, "prompt": "hello"},
    "own": {"model": OWN_MODEL, "input": {"whatever": "the engine takes"}},
}

QUEUED: dict[str, Any] = {
    "id": _ID,
    "object": "job",
    "model": TEXT_MODEL,
    "status": "queued",
    "created_at": "2025-11-22T21:45:00.123Z",
    "started_at": None,
    "finished_at": None,
    "attempt": 0,
    "queue_position": 3,
    "estimated_start": "2025-11-22T21:45:02.000Z",
    "cancel_requested": False,
    "cached": False,
    "output": None,
    "error": None,
    "usage": None,
    "metadata": {},
    "urls": {"get": _URL, "events": f"{_URL}/events?ticket=…", "cancel": f"{_URL}/cancel"},
}

FINISHED: dict[str, Any] = {
    **QUEUED,
    "status": "succeeded",
    "started_at": "2025-11-22T21:45:00.140Z",
    "finished_at": "2025-11-22T21:45:00.518Z",
    "attempt": 1,
    "queue_position": None,
    "estimated_start": None,
    "output": {"text": " a new list of the items.", "finish_reason": "stop"},
    "usage": {
        "prompt_tokens": 4,
        "completion_tokens": 8,
        "total_tokens": 12,
        "cached_tokens": 0,
        "queue_ms": 17.0,
        "run_ms": 378.0,
        "batch_size": 4,
        "attempts": 1,
    },
}

RETRIED: dict[str, Any] = {
    **FINISHED,
    "attempt": 2,
    "earlier_attempts": [
        {
            "attempt": 1,
            "started_at": "2025-11-22T21:45:00.131Z",
            "ended_at": "2025-11-22T21:45:00.135Z",
            "reason": "drained",
        }
    ],
}

CANCELING: dict[str, Any] = {
    **QUEUED,
    "status": "running",
    "started_at": "2025-11-22T21:45:00.140Z",
    "attempt": 1,
    "queue_position": None,
    "estimated_start": None,
    "cancel_requested": True,
}

CANCELED: dict[str, Any] = {
    **CANCELING,
    "status": "canceled",
    "finished_at": "2025-11-22T21:45:00.201Z",
    "error": {"code": "job_canceled", "message": "The job was canceled.", "retryable": False},
}

INGESTED: dict[str, Any] = {
    name: {"type": "inference.requested", "data": REQUESTS[name]}
    for name in ("prompt", "embedding", "echo", "own")
}

_DELIVERY: dict[str, Any] = {
    "id": f"msg_{_ID.removeprefix('job_')}_completed",
    "object": "delivery",
    "job_id": _ID,
    "type": "job.completed",
    "url": "https://example.com/hooks/inference",
    "status": "delivered",
    "attempts": 2,
    "created_at": "2025-11-22T21:45:00.518Z",
    "last_attempt_at": "2025-11-22T21:45:05.102Z",
    "next_attempt_at": None,
    "delivered_at": "2025-11-22T21:45:05.102Z",
    "response_status": 204,
    "error": None,
}

DELIVERIES: dict[str, Any] = {"data": [_DELIVERY]}

REPLAYED: dict[str, Any] = {
    "data": [
        {
            **_DELIVERY,
            "status": "pending",
            "next_attempt_at": "2025-11-22T21:50:00.000Z",
        }
    ]
}

LISTING: dict[str, Any] = {"data": [FINISHED], "next_cursor": None}

EVENTS = """retry: 1000

id: 0-1
event: status
data: {"status":"queued","attempt":0}

id: 1-0
event: status
data: {"status":"running","attempt":1}

id: 1-1
event: token
data: {"text":" a new","index":0}

id: 1-2
event: done
data: {"id":"job_019aa61c…","status":"succeeded","output":{"text":" a new","finish_reason":"stop"}}

"""

STATS: dict[str, Any] = {
    "models": [
        {
            "model": TEXT_MODEL,
            "window_seconds": 312.402,
            "ended": {"succeeded": 118, "canceled": 2},
            "throughput": 0.384,
            "tokens": 7591,
            "tokens_per_second": 24.3,
            "latency_ms": {"p50": 411.6, "p95": 882.3, "p99": 1174.3},
            "queue_wait_ms": {"p50": 3.66, "p95": 61.2, "p99": 98.6},
            "queue_depth": 4,
            "oldest_ms": 212,
            "drained_in_ms": 1140,
            "running": 1,
            "breaker": MODELS["data"][0]["breaker"],
        }
    ],
    "webhooks": {"waiting": 2, "oldest_ms": 4310, "given_up": 0},
    "dead_letters": 1,
    "cache": {"hits": 12, "shared": 1, "misses": 30},
    "storage": {"held_bytes": 4812070, "max_bytes": 2147483648},
    "limits": [
        {
            "client": "key:default",
            "policy": "submit",
            "window_seconds": 60,
            "quota": 600,
            "used": 23,
            "refused": 0,
        }
    ],
}

READY: dict[str, Any] = {
    "status": "ready",
    "checks": {
        "redis": {"ok": True, "state": "ok"},
        "models": {
            TEXT_MODEL: {"ok": True, "state": "ready", "workers": 1, "consuming": True},
        },
    },
}
