"""FastAPI + taskiq: one task a job, a Redis stream that is acknowledged, a Redis result backend.

`POST /infer` gives the id of a result that is polled at `GET /result/<id>`; `POST /infer/wait` waits in the
view, where taskiq asks Redis at an interval.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

CHECK_SECONDS = 0.01
"""taskiq's own is 0.2."""
WAIT_SECONDS = 60
KEEP_SECONDS = 3600

results: Any = RedisAsyncResultBackend(
    redis_url=os.environ["REDIS_URL"], result_ex_time=KEEP_SECONDS
)
broker = RedisStreamBroker(url=os.environ["REDIS_URL"]).with_result_backend(results)


@broker.task  # type: ignore[untyped-decorator]
async def echo(prompt: str) -> dict[str, str]:
    return {"text": prompt}


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    await broker.startup()
    yield
    await broker.shutdown()


class Asked(BaseModel):
    prompt: str


app = FastAPI(lifespan=lifespan)


@app.post("/infer", status_code=202)  # type: ignore[untyped-decorator]
async def start(asked: Asked) -> dict[str, str]:
    task = await echo.kiq(asked.prompt)
    return {"id": task.task_id}


@app.get("/result/{task_id}")  # type: ignore[untyped-decorator]
async def look(task_id: str) -> dict[str, Any]:
    if not await results.is_result_ready(task_id):
        return {"ready": False, "value": None}
    result = await results.get_result(task_id)
    return {"ready": True, "value": result.return_value}


@app.post("/infer/wait")  # type: ignore[untyped-decorator]
async def wait(asked: Asked) -> dict[str, Any]:
    task = await echo.kiq(asked.prompt)
    result = await task.wait_result(check_interval=CHECK_SECONDS, timeout=WAIT_SECONDS)
    return {"value": result.return_value}
