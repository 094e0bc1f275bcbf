"""Requests and answers about webhook endpoints, for the OpenAPI document and its tests."""

from typing import Any

_ID = "we_6f1c2a9be04d4b7f8a3e5d216f1c2a9b"
_EVENTS = ["response.completed", "response.failed"]
_URL = "https://example.com/hooks/openai"

NEW: dict[str, Any] = {
    "responses": {"url": _URL, "name": "responses", "event_types": _EVENTS},
}
ENDPOINT: dict[str, Any] = {
    "id": _ID,
    "object": "webhook_endpoint",
    "url": _URL,
    "name": "responses",
    "event_types": _EVENTS,
    "created_at": 1_763_847_900,
    "updated_at": 1_763_847_900,
    "signing_secret_hint": "whsec_…Cw8M=",
}
WITH_SECRET: dict[str, Any] = {**ENDPOINT, "signing_secret": "whsec_…"}
LISTED: dict[str, Any] = {
    "object": "list",
    "data": [ENDPOINT],
    "first_id": _ID,
    "last_id": _ID,
    "has_more": False,
}
CHANGED: dict[str, Any] = {"events": {"event_types": ["batch.completed"]}}
ROTATED: dict[str, Any] = {"kept": {"keep_old_secret_active_for_24_hours": True}}
TRIAL: dict[str, Any] = {"completed": {"event_type": "response.completed"}}
DELETED: dict[str, Any] = {"id": _ID, "deleted": True, "object": "webhook_endpoint.deleted"}
TESTED: dict[str, Any] = {
    "object": "webhook_endpoint.test",
    "webhook_endpoint_id": _ID,
    "event_type": "response.completed",
    "status_code": 204,
    "success": True,
}
TYPES: dict[str, Any] = {"object": "list", "data": _EVENTS}
