"""Flask + dramatiq: one message a job, Redis as broker and result backend.

`POST /infer` gives the id of a result that is polled at `GET /result/<id>`; `POST /infer/wait` blocks in the
view until the result is there.
"""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import RedisBackend
from flask import Flask, Response, jsonify, request

WAIT_MS = 60_000

broker = RedisBroker(url=os.environ["REDIS_URL"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["REDIS_URL"])))
dramatiq.set_broker(broker)
flask_app = Flask("flask_dramatiq")


@dramatiq.actor(store_results=True)  # type: ignore[untyped-decorator]
def echo(prompt: str) -> dict[str, str]:
    return {"text": prompt}


@flask_app.post("/infer")
def start() -> tuple[Response, int]:
    message = echo.send(request.get_json()["prompt"])
    return jsonify({"id": message.message_id}), 202


@flask_app.get("/result/<message_id>")
def look(message_id: str) -> Response:
    try:
        value = echo.message().copy(message_id=message_id).get_result()
    except ResultMissing:
        return jsonify({"ready": False, "value": None})
    return jsonify({"ready": True, "value": value})


@flask_app.post("/infer/wait")
def wait() -> Response:
    message = echo.send(request.get_json()["prompt"])
    return jsonify({"value": message.get_result(block=True, timeout=WAIT_MS)})
