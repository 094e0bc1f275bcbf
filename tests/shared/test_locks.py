"""A wake-up reaches who waits, whenever it comes, between threads and between greenlets."""

import subprocess
import sys
import threading

import pytest

from shared.locks import Wakeup
from tests.conftest import RedisServer

LONG = 30.0


def test_who_was_woken_before_does_not_wait() -> None:
    wakeup = Wakeup()
    wakeup.wake()
    wakeup.wake()

    done = threading.Thread(target=lambda: (wakeup.wait(), wakeup.wait(LONG)))
    done.start()
    done.join(LONG)
    assert not done.is_alive()


def test_who_is_not_woken_stops_waiting() -> None:
    wakeup = Wakeup()
    done = threading.Thread(target=lambda: [wakeup.wait(0.02) for _ in range(2)])
    done.start()
    done.join(LONG)
    assert not done.is_alive()

    wakeup.wake()
    wakeup.wait(LONG)


@pytest.mark.parametrize("timeout", [None, LONG])
def test_a_thread_is_woken(timeout: float | None) -> None:
    wakeup = Wakeup()
    waiting = threading.Thread(target=wakeup.wait, args=(timeout,))
    waiting.start()

    wakeup.wake()

    waiting.join(LONG / 2)
    assert not waiting.is_alive()


def test_greenlets_wait_for_each_other(redis_server: RedisServer) -> None:
    program = """
import sys
from gevent import monkey
monkey.patch_all()
import gevent
from concurrent.futures import ThreadPoolExecutor
from shared.locks import Wakeup
from shared.redis.connection import connect
from shared.redis.script_pipeline import ScriptPipeline

made, woken = [Wakeup() for _ in range(100)], []
waiting = [gevent.spawn(lambda n=n: (made[n].wait(30), woken.append(n))) for n in range(100)]
gevent.sleep(0)
waiting[7].kill()
for wakeup in reversed(made):
    wakeup.wake()
gevent.joinall(waiting, timeout=15)
assert sorted(woken) == [n for n in range(100) if n != 7]

redis = connect(sys.argv[1], 5.0)
pipeline, script = ScriptPipeline(redis), redis.register_script("return ARGV[1]")
with ThreadPoolExecutor(100) as pool:
    answers = list(pool.map(lambda n: pipeline.call(script, (str(n),)), range(2000)))
assert answers == [str(n).encode() for n in range(2000)]
print("all", len(answers))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, redis_server.url],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "all 2000\n", done.stderr
