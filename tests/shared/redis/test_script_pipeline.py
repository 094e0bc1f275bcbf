"""Calls that travel together: every caller gets its own answer, or its own error."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from shared.redis.script_pipeline import MOST, MOST_BYTES, MOST_THINGS, ScriptPipeline
from shared.store.jobs import JobStore
from tests.shared.together import together

ECHO = "if ARGV[1] == 'bad' then return redis.error_reply('ERR ' .. ARGV[2]) end return ARGV[1]"

ECHO_ALL = """
local answers = {}
for i, thing in ipairs(ARGV) do answers[i] = thing == 'bad' and {err = 'OOM no room'} or thing end
if ARGV[1] == 'worse' then return redis.error_reply('ERR all of it') end
return answers
"""
"""Answers each of many things: `bad` with an error, and all with one where the first is `worse`."""


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


def in_one_batch(store: JobStore, things: list[bytes]) -> tuple[list[object], list[int]]:
    """What each caller got for its thing, and how many calls each command carried."""
    pipeline, script = ScriptPipeline(store.redis), store.redis.register_script(ECHO_ALL)
    script(args=["known"])
    calls = [lambda thing=thing: pipeline.call_for(script, thing) for thing in things]
    futures, carried = together(pipeline, lambda: pipeline.call(script, ("first",)), calls)
    return [future.exception() or future.result() for future in futures], carried


def test_calls_of_a_script_that_takes_many_things_become_one_command(store: JobStore) -> None:
    things = [b"%d" % number for number in range(MOST_THINGS + 3)]
    assert in_one_batch(store, things) == (things, [MOST_THINGS, 3])


def test_large_things_go_in_commands_of_their_own(store: JobStore) -> None:
    half, large = b"h" * (MOST_BYTES // 2), b"l" * (MOST_BYTES + 1)
    things = [b"a", half, b"b", half, large, b"c"]
    assert in_one_batch(store, things) == (things, [3, 1, 1, 1])


def test_an_error_among_the_answers_is_one_callers_alone(store: JobStore) -> None:
    answers, carried = in_one_batch(store, [b"a", b"bad", b"c"])
    assert carried == [3]
    assert (answers[0], answers[2]) == (b"a", b"c")
    assert isinstance(answers[1], OutOfMemoryError), "it is what redis-py makes of such an error"


def test_an_error_of_the_command_is_every_callers(store: JobStore) -> None:
    answers, _ = in_one_batch(store, [b"worse", b"b"])
    assert [str(answer) for answer in answers] == ["all of it"] * 2


def test_a_script_that_redis_does_not_know_is_brought_there_for_many_things(
    store: JobStore, prefix: str
) -> None:
    pipeline = ScriptPipeline(store.redis)
    script = store.redis.register_script(f"{ECHO_ALL} -- {prefix}")
    first = store.redis.register_script(ECHO)
    calls = [lambda n=n: pipeline.call_for(script, b"%d" % n) for n in range(3)]
    futures, carried = together(pipeline, lambda: pipeline.call(first, ("first",)), calls)
    assert [future.result() for future in futures] == [b"0", b"1", b"2"]
    assert carried == [3]


def test_callers_that_are_killed_harm_nobody_whose_call_travels_with_theirs(
    store: JobStore,
) -> None:
    program = """
import sys
from gevent import monkey
monkey.patch_all()
import gevent
from gevent.event import Event
from shared.redis.connection import connect
from shared.redis.script_pipeline import ScriptPipeline

redis = connect(sys.argv[1], 5.0)
pipeline, script = ScriptPipeline(redis), redis.register_script(sys.argv[2])
connected, on_the_way, free = pipeline._connected, [Event(), Event(), Event()], [Event() for _ in range(3)]
turns = iter(range(3))

def held():
    turn = next(turns)
    on_the_way[turn].set()
    free[turn].wait(30)
    return connected()

pipeline._connected = held
callers = [gevent.spawn(pipeline.call_for, script, b"%d" % n) for n in range(6)]
on_the_way[0].wait(30)
callers[3].kill()  # It waits for the first.
free[0].set()
on_the_way[1].wait(30)
callers[1].kill()  # It leads 2, 4 and 5.
on_the_way[2].wait(30)
free[2].set()
gevent.joinall(callers, timeout=30)
print([caller.value for caller in callers])
"""
    assert under_gevent(store, program, ECHO_ALL) == "[b'0', None, b'2', None, b'4', b'5']\n"


def test_a_caller_that_is_killed_while_it_brings_a_forgotten_script_back_harms_nobody(
    store: JobStore, prefix: str
) -> None:
    program = """
import sys
from gevent import monkey
monkey.patch_all()
import gevent
from gevent.event import Event
from shared.redis.connection import connect
from shared.redis.script_pipeline import ScriptPipeline

redis = connect(sys.argv[1], 5.0)
pipeline, script = ScriptPipeline(redis), redis.register_script(sys.argv[2])
connected, alone = pipeline._connected, pipeline._alone
first_leads, forgotten, free = Event(), Event(), [Event(), Event()]

def held():
    first_leads.set()
    free[0].wait(30)
    return connected()

def held_alone(call):
    forgotten.set()
    free[1].wait(30)
    alone(call)

pipeline._connected, pipeline._alone = held, held_alone
first = gevent.spawn(pipeline.call, redis.register_script("return 'first'"), ())
first_leads.wait(30)
others = [gevent.spawn(pipeline.call_for, script, b"%d" % n) for n in range(4)]
gevent.idle()  # They wait for the first.
redis.script_load("return 'first'")
free[0].set()
forgotten.wait(30)
others[0].kill()  # It leads 1, 2 and 3, whose script Redis does not know.
free[1].set()
gevent.joinall([first, *others], timeout=30)
print([caller.value for caller in [first, *others]])
"""
    answers = under_gevent(store, program, f"{ECHO_ALL} -- {prefix}")
    assert answers == "[b'first', None, b'1', b'2', b'3']\n"


def test_a_caller_that_is_killed_before_the_one_that_carries_its_call_leads_nobody(
    store: JobStore, prefix: str
) -> None:
    program = """
import sys
from gevent import monkey
monkey.patch_all()
import gevent
from gevent.event import Event
from shared.redis.connection import connect
from shared.redis.script_pipeline import ScriptPipeline

redis = connect(sys.argv[1], 5.0)
pipeline, script = ScriptPipeline(redis), redis.register_script(sys.argv[2])
connected = pipeline._connected
on_its_way, free = [Event(), Event()], [Event(), Event()]
turns = iter([0, 1])

def held():
    turn = next(turns, None)
    if turn is not None:
        on_its_way[turn].set()
        free[turn].wait(30)
    return connected()

pipeline._connected = held
first = gevent.spawn(pipeline.call_for, script, b"first")
on_its_way[0].wait(30)
others = [gevent.spawn(pipeline.call_for, script, b"%d" % n) for n in range(4)]
gevent.idle()  # They wait for the first.
free[0].set()
on_its_way[1].wait(30)
others[1].kill()  # 0 carries its call, and those of 2 and 3.
others[0].kill()
gevent.joinall([first, *others], timeout=10)
print([caller.value for caller in [first, *others]])
"""
    answers = under_gevent(store, program, f"{ECHO_ALL} -- {prefix}")
    assert answers == "[b'first', None, None, b'2', b'3']\n"


def under_gevent(store: JobStore, program: str, script: str) -> str:
    """What the program prints in a process of its own, given the store's address and a script."""
    where = store.redis.connection_pool.connection_kwargs
    done = subprocess.run(
        [sys.executable, "-c", program, f"redis://{where['host']}:{where['port']}/0", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("GreenletExit()", "None")
