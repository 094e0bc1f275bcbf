"""Plain Flask + Celery: one task a job, a Redis result backend.

`POST /infer` gives the id of a result that is polled at `GET /result/<id>`; `POST /infer/wait` waits in the
view for the result, which comes over the backend's pub/sub channel.
"""

import os

from celery import Celery
from flask import Flask, Response, jsonify, request

WAIT_SECONDS = 60

celery_app = Celery("flask_celery", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
flask_app = Flask("flask_celery")


@celery_app.task  # type: ignore[untyped-decorator]
def echo(prompt: str) -> dict[str, str]:
    return {"text": prompt}


@flask_app.post("/infer")
def start() -> tuple[Response, int]:
    result = echo.delay(request.get_json()["prompt"])
    return jsonify({"id": result.id}), 202


@flask_app.get("/result/<result_id>")
def look(result_id: str) -> Response:
    result = echo.AsyncResult(result_id)
    ready = result.ready()
    return jsonify({"ready": ready, "value": result.result if ready else None})


@flask_app.post("/infer/wait")
def wait() -> Response:
    result = echo.delay(request.get_json()["prompt"])
    return jsonify({"value": result.get(timeout=WAIT_SECONDS)})
