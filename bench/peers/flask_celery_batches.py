"""Flask + celery-batches: a worker's child gets many calls of a task at once. Redis result backend.

`POST /infer` gives the id of a result that is polled at `GET /result/<id>`; `POST /infer/wait` waits in the
view for the result, which comes over the backend's pub/sub channel.
"""

import os

from celery import Celery
from celery_batches import Batches, SimpleRequest
from flask import Flask, Response, jsonify, request

BATCH_SIZE = 32
FLUSH_SECONDS = 0.02
WAIT_SECONDS = 60

celery_app = Celery(
    "flask_celery_batches", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"]
)
# No bound of its own, as celery-batches asks for: a batch is of messages that are not yet acknowledged.
celery_app.conf.worker_prefetch_multiplier = 0
flask_app = Flask("flask_celery_batches")


@celery_app.task(base=Batches, flush_every=BATCH_SIZE, flush_interval=FLUSH_SECONDS)  # type: ignore[untyped-decorator]
def echo(requests: list[SimpleRequest]) -> None:
    for one in requests:
        (prompt,) = one.args
        celery_app.backend.mark_as_done(one.id, {"text": prompt}, request=one)


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
