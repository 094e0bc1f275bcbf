"""Wake-ups reach who waits, whenever they come; what a process gets follows from whether gevent is there."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import gevent
import pytest

from shared.greenlets import GreenletWakeup
from shared.locks import ThreadWakeup, Wakeup, brief_lock, wakeups
from tests.conftest import RedisServer

KINDS = pytest.mark.parametrize("kind", [ThreadWakeup, GreenletWakeup])
LONG = 30.0


@KINDS
def test_who_was_woken_before_does_not_wait(kind: Callable[[], Wakeup]) -> None:
    wakeup = kind()
    wakeup.wake()
    wakeup.wake()
    began = time.monotonic()

    wakeup.wait()
    wakeup.wait(LONG)

    assert time.monotonic() - began < LONG, "it did not wait to the end"


@KINDS
def test_who_is_not_woken_waits_no_longer_than_asked(kind: Callable[[], Wakeup]) -> None:
    wakeup = kind()
    began = time.monotonic()

    for _ in range(2):
        wakeup.wait(0.02)

    assert time.monotonic() - began >= 0.03
    wakeup.wake()
    wakeup.wait(LONG)


@pytest.mark.parametrize("timeout", [None, LONG])
def test_a_thread_is_woken(timeout: float | None) -> None:
    wakeup = ThreadWakeup()
    waiting = threading.Thread(target=wakeup.wait, args=(timeout,))
    waiting.start()

    wakeup.wake()

    waiting.join(LONG / 2)
    assert not waiting.is_alive()


@pytest.mark.parametrize("timeout", [None, LONG])
def test_a_greenlet_is_woken(timeout: float | None) -> None:
    wakeup = GreenletWakeup()
    waiting = gevent.spawn(wakeup.wait, timeout)
    gevent.sleep(0)

    wakeup.wake()
    wakeup.wake()

    waiting.join(LONG / 2)
    assert waiting.successful()


def test_a_greenlet_that_is_killed_while_it_waits_is_not_woken_again() -> None:
    wakeup = GreenletWakeup()
    went_on = []

    def wait() -> None:
        try:
            wakeup.wait(LONG)
        except gevent.GreenletExit:
            began = time.monotonic()
            gevent.sleep(0.05)
            assert time.monotonic() - began >= 0.04
            went_on.append("slept to the end")

    waiting = gevent.spawn(wait)
    gevent.sleep(0)
    # Both are on their way at once, the end first.
    waiting.kill(block=False)
    wakeup.wake()
    waiting.join(LONG / 2)

    assert went_on == ["slept to the end"]


def test_many_greenlets_are_woken_each_by_its_own() -> None:
    made = [GreenletWakeup() for _ in range(100)]
    woken: list[int] = []

    def wait(number: int) -> None:
        made[number].wait(LONG)
        woken.append(number)

    waiting = [gevent.spawn(wait, number) for number in range(100)]
    gevent.sleep(0)
    for wakeup in reversed(made):
        wakeup.wake()
    gevent.joinall(waiting, timeout=LONG / 2)

    assert woken == list(reversed(range(100)))


def test_a_brief_lock_lets_one_in_at_a_time() -> None:
    lock, inside, most = brief_lock(), 0, 0

    def enter(_: int) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(2000)))

    assert most == 1


def test_without_gevent_they_are_for_threads() -> None:
    assert wakeups() is ThreadWakeup


def test_where_gevent_took_the_place_of_threads_they_are_for_greenlets(
    redis_server: RedisServer,
) -> None:
    program = """
import sys
from gevent import monkey
monkey.patch_all()
import _thread, threading
from concurrent.futures import ThreadPoolExecutor
from shared.redis.connection import connect
from shared.redis.script_pipeline import ScriptPipeline
from shared.greenlets import GreenletWakeup
from shared.locks import brief_lock, brief_rlock, wakeups

assert wakeups() is GreenletWakeup
assert type(brief_lock()) is not type(threading.Lock())
assert type(brief_rlock()) is not type(threading.RLock())
with brief_rlock() as _:
    pass
redis = connect(sys.argv[1], 5.0)
courier, script = ScriptPipeline(redis), redis.register_script("return ARGV[1]")
with ThreadPoolExecutor(100) as pool:
    answers = list(pool.map(lambda n: courier.call(script, (str(n),)), range(2000)))
assert answers == [str(n).encode() for n in range(2000)]
"""
    done = subprocess.run(
        [sys.executable, "-c", program, redis_server.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
