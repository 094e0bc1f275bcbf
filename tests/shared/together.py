"""Script calls that meet on their way to Redis, made to meet: in one batch, in the order given."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from shared.redis.script_pipeline import ScriptPipeline
from tests.conftest import eventually


def together(
    pipeline: ScriptPipeline, leader: Callable[[], object], calls: Sequence[Callable[[], Any]]
) -> tuple[list[Future[Any]], list[int]]:
    """Hold the leader's call back until all others wait behind it: then these are the next batch.

    Returns their futures, and how many calls each command of the batch carried.
    """
    free, carried = threading.Event(), list[list[int]]()
    connected, exchange = pipeline._connected, pipeline._exchange

    def held() -> Any:
        assert free.wait(60)
        return connected()

    def watched(commands: Sequence[Any]) -> list[Any]:
        carried.append([len(command) for command in commands])
        return exchange(commands)

    futures: list[Future[Any]] = []
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(calls) + 1) as pool:
        patch.setattr(pipeline, "_connected", held)
        patch.setattr(pipeline, "_exchange", watched)
        leading = pool.submit(leader)
        eventually(lambda: carried, what="the leader is on its way")
        for number, call in enumerate(calls, 1):
            futures.append(pool.submit(call))
            eventually(lambda n=number: len(pipeline._waiting) == n, what="the call waits")  # type: ignore[misc]
        free.set()
    leading.result()
    assert carried[0] == [1]
    return futures, carried[1]
