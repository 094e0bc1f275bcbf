"""Requests and answers of this dialect, for the OpenAPI document and its tests."""

from typing import Any

from api.openapi.model_examples import TEXT_MODEL
from api.replicate.models import COG_VERSION
from shared.domain.predictions import OWNER, full_name, version_id

_ID = "job_019aa61c4f3b8f0e3c5d7a9b1e2f4a6c"
_URL = f"http://127.0.0.1:8080/v1/predictions/{_ID}"
_AT = "2025-11-22T21:45:00.000Z"

INPUT: dict[str, Any] = {"prompt": "The function returns", "max_new_tokens": 16}
BY_VERSION: dict[str, Any] = {
    "version": {"version": full_name(TEXT_MODEL), "input": {"prompt": "The function returns"}},
}
BY_NAME: dict[str, Any] = {"text": {"input": {"prompt": "The function returns"}}}
PREDICTION: dict[str, Any] = {
    "id": _ID,
    "model": full_name(TEXT_MODEL),
    "version": version_id(TEXT_MODEL),
    "status": "succeeded",
    "input": None,
    "output": [" a list."],
    "error": None,
    "logs": "",
    "metrics": {"predict_time": 0.21, "total_time": 0.24, "output_token_count": 3},
    "source": "api",
    "created_at": _AT,
    "started_at": _AT,
    "completed_at": _AT,
    "urls": {"get": _URL, "cancel": f"{_URL}/cancel", "stream": f"{_URL}/stream?ticket=…"},
}
MADE: dict[str, Any] = {
    **PREDICTION,
    "status": "starting",
    "input": INPUT,
    "output": None,
    "metrics": {},
    "started_at": None,
    "completed_at": None,
}
CANCELED: dict[str, Any] = {**PREDICTION, "status": "canceled", "output": None}
PAGE: dict[str, Any] = {"results": [PREDICTION], "next": None, "previous": None}
EVENTS = """retry: 1000

id: 1-1
event: output
data:  a list.

id: 1-2
event: done
data: {}

"""
_OUTPUT = {"type": "array", "items": {"type": "string"}, "x-cog-array-type": "iterator"}
VERSION: dict[str, Any] = {
    "id": version_id(TEXT_MODEL),
    "created_at": _AT,
    "cog_version": COG_VERSION,
    "openapi_schema": {
        "openapi": "3.1.0",
        "info": {"title": full_name(TEXT_MODEL), "version": version_id(TEXT_MODEL)},
        "paths": {},
        "components": {"schemas": {"Input": {"type": "object"}, "Output": _OUTPUT}},
    },
}
VERSIONS: dict[str, Any] = {"results": [VERSION], "next": None, "previous": None}
MODEL: dict[str, Any] = {
    "url": f"http://127.0.0.1:8080/v1/models/{full_name(TEXT_MODEL)}",
    "owner": OWNER,
    "name": TEXT_MODEL,
    "description": "A model of this server, run by the engine text-generation.",
    "visibility": "private",
    "github_url": None,
    "paper_url": None,
    "license_url": None,
    "run_count": 0,
    "cover_image_url": None,
    "default_example": None,
    "latest_version": VERSION,
}
LISTED_MODEL: dict[str, Any] = {**MODEL, "latest_version": {**VERSION, "openapi_schema": {}}}
ACCOUNT: dict[str, Any] = {
    "type": "organization",
    "username": "default",
    "name": "default",
    "github_url": None,
}
DEPLOYMENT: dict[str, Any] = {
    "owner": OWNER,
    "name": TEXT_MODEL,
    "current_release": {
        "number": 1,
        "model": full_name(TEXT_MODEL),
        "version": version_id(TEXT_MODEL),
        "created_at": _AT,
        "created_by": ACCOUNT,
        "configuration": {"hardware": "cpu", "min_instances": 1, "max_instances": 1},
    },
}
DEPLOYMENTS: dict[str, Any] = {"results": [DEPLOYMENT], "next": None, "previous": None}
