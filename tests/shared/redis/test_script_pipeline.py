"""Calls that travel together: every caller gets its own answer, or its own error."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from redis.exceptions import ResponseError

from shared.redis.script_pipeline import MOST, ScriptPipeline
from shared.store.jobs import JobStore

ECHO = "if ARGV[1] == 'bad' then return redis.error_reply('ERR ' .. ARGV[2]) end return ARGV[1]"


def test_many_callers_at_once_get_their_own_answers(store: JobStore) -> None:
    pipeline, script = ScriptPipeline(store.redis), store.redis.register_script(ECHO)
    before = store.redis.info("clients")["connected_clients"]
    with ThreadPoolExecutor(3 * MOST) as pool:
        answers = list(pool.map(lambda n: pipeline.call(script, (str(n),)), range(4000)))
    assert answers == [str(n).encode() for n in range(4000)]
    after = store.redis.info("clients")["connected_clients"]
    assert after - before <= 3, "one batch at a time needs one connection"


def test_one_bad_call_fails_alone(store: JobStore) -> None:
    pipeline, script = ScriptPipeline(store.redis), store.redis.register_script(ECHO)
    together = threading.Barrier(32)

    def call(number: int) -> str:
        together.wait()
        if number % 4:
            answer: bytes = pipeline.call(script, (str(number),))
            return answer.decode()
        with pytest.raises(ResponseError, match=f"no {number}$"):
            pipeline.call(script, ("bad", f"no {number}"))
        return str(number)

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(call, range(32))) == [str(n) for n in range(32)]


def test_scripts_that_redis_has_forgotten_are_brought_back(store: JobStore) -> None:
    pipeline, script = ScriptPipeline(store.redis), store.redis.register_script(ECHO)
    pipeline.call(script, ("x",))
    store.redis.script_flush()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: pipeline.call(script, (str(n),)), range(200)))
    assert answers == [str(n).encode() for n in range(200)]


def test_a_connection_that_was_lost_is_made_anew(store: JobStore) -> None:
    pipeline, script = ScriptPipeline(store.redis), store.redis.register_script(ECHO)
    assert pipeline.call(script, ("before",)) == b"before"
    store.redis.client_kill_filter(_type="normal", skipme=True)
    assert pipeline.call(script, ("after",)) == b"after"


def test_each_call_is_made_inside_what_watches(store: JobStore) -> None:
    pipeline, script = ScriptPipeline(store.redis), store.redis.register_script(ECHO)
    seen: list[str] = []

    @contextmanager
    def around() -> Iterator[None]:
        seen.append("begins")
        yield
        seen.append("ends")

    pipeline.around = around
    assert pipeline.call(script, ("x",)) == b"x"
    assert seen == ["begins", "ends"]
