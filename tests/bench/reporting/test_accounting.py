import os

import psutil
from redis import Redis

from bench.reporting.accounting import Command, Cost, Counters, cost, read
from bench.subjects import Serving


def test_a_cost_is_the_difference_shared_by_the_jobs() -> None:
    before = Counters({"web": {1: 2.0}}, {"get": Command(10, 100)})
    after = Counters({"web": {1: 5.0}}, {"get": Command(40, 400)})

    assert cost(before, after, 10) == Cost({"web": 300.0}, {"get": Command(3.0, 30.0)})


def test_processes_and_commands_that_are_new_count_from_zero() -> None:
    before = Counters({"web": {1: 2.0, 2: 9.0}}, {"get": Command(10, 100)})
    after = Counters({"web": {1: 2.0, 3: 1.0}}, {"get": Command(10, 100), "set": Command(1, 5)})

    assert cost(before, after, 1) == Cost({"web": 1000.0}, {"set": Command(1, 5)})


def test_without_jobs_there_is_no_cost() -> None:
    nothing = Counters({"web": {1: 2.0}}, {})

    assert cost(nothing, nothing, 0) == Cost({}, {})


def test_counters_are_those_of_the_processes_and_of_redis(redis_url: str, prefix: str) -> None:
    serving = Serving("", redis_url, {"me": lambda: [psutil.Process()], "gone": list})
    with Redis.from_url(redis_url) as redis:
        before = read(serving, redis)
        for _ in range(7):
            redis.getdel(f"{prefix}:nothing")
        after = read(serving, redis)

    assert list(after.cpu["me"]) == [os.getpid()]
    assert after.cpu["me"][os.getpid()] >= before.cpu["me"][os.getpid()] > 0
    assert after.cpu["gone"] == {}
    assert cost(before, after, 7).commands["getdel"].calls == 1.0
    assert "info" not in after.commands
