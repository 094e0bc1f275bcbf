"""The simulation: laws that hold for any queue, and rules of the protocol. Costs here are made up."""

import math

import pytest

from bench.machine import Machine
from bench.simulation.calibrate import Calibration
from bench.simulation.cell import Shape
from bench.simulation.costs import Costs, ProcessCosts, RedisCosts
from bench.simulation.kernel import Cores, Server, Timeline
from bench.simulation.runs import closed_loop, open_loop

NAMES = RedisCosts.__struct_fields__
REDIS = RedisCosts(**{**dict.fromkeys(NAMES, 5.0), "create": 100.0, "finish": 60.0, "token": 0.1})
PROCESSES = ProcessCosts(400, 50, 10, 20, 10, 10, 5)
MACHINE = Machine("cpu", 2, 1.0, "Linux", "3", "7", {}, "none", 0.0)
COSTS = Costs("2026-11-23", MACHINE, REDIS, PROCESSES)


def waits(load: float, deterministic: bool) -> float:
    """The mean wait of 40,000 Poisson arrivals at one server whose mean service is a second."""
    import random

    draw = random.Random(7)
    timeline = Timeline()
    server = Server(timeline)
    found: list[float] = []

    def arrive() -> None:
        came, service = timeline.now, 1.0 if deterministic else draw.expovariate(1.0)
        server.serve("x", service, lambda: found.append(timeline.now - came - service))
        timeline.after(draw.expovariate(load), arrive)

    timeline.at(0.0, arrive)
    timeline.run(40_000 / load)
    assert server.busy["x"] / timeline.now == pytest.approx(load, rel=0.03)
    return sum(found) / len(found)


def test_waits_at_one_server_follow_the_closed_formulas() -> None:
    assert waits(0.5, deterministic=False) == pytest.approx(0.5 / (1 - 0.5), rel=0.08)  # M/M/1
    assert waits(0.5, deterministic=True) == pytest.approx(0.5 / (2 * (1 - 0.5)), rel=0.08)  # M/D/1


def test_shared_cores_hold_servers_back() -> None:
    timeline = Timeline()
    cores = Cores(timeline, 2)
    ends: list[float] = []
    for _ in range(5):
        Server(timeline, cores).serve("x", 1.0, lambda: ends.append(timeline.now))

    timeline.run(10.0)

    assert ends == [1.0, 1.0, 2.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "shape",
    [
        Shape(workers=4, apis=2),
        Shape(workers=4, apis=2, tokens=8, step=0.01, streamed=True),
        Shape(workers=4, apis=2, tokens=8, step=0.01, merge=4, aligned=False),
    ],
)
def test_every_job_that_comes_ends_or_is_inside(shape: Shape) -> None:
    said = closed_loop(COSTS, shape, 32, seconds=2.0, warm_up=1.0)

    assert said.ended > 100
    # Each client has exactly one job, wherever it is.
    assert 0 <= said.submitted - said.ended <= 32
    assert said.inside <= said.submitted - said.ended


def test_redis_is_busy_by_the_law_of_utilisation() -> None:
    said = open_loop(COSTS, Shape(workers=4, apis=4), 500.0, seconds=4.0, warm_up=1.0)

    assert said.keeps_up
    assert said.redis == pytest.approx(said.rate * said.demand_us / 1e6, rel=1e-6)
    assert 0 < said.redis < 1


def test_a_run_is_the_same_each_time() -> None:
    shape = Shape(workers=4, apis=2)
    assert open_loop(COSTS, shape, 300.0, seconds=1.0) == open_loop(
        COSTS, shape, 300.0, seconds=1.0
    )


def test_a_full_worker_rings_for_an_idle_one_and_one_with_room_does_not() -> None:
    slow = Shape(workers=4, apis=2, capacity=8, tokens=10, step=0.05)

    fits = closed_loop(COSTS, slow, 7, seconds=2.0, warm_up=0.5)
    many = closed_loop(COSTS, slow, 16, seconds=2.0, warm_up=0.5)

    assert fits.drains == 0.25
    assert many.drains > 0.25


def test_a_job_calls_one_worker_however_many_there_are() -> None:
    few, many = (
        open_loop(COSTS, Shape(workers, 4), 300.0, seconds=4.0, warm_up=1.0).redis_us["wake-ups"]
        for workers in (10, 100)
    )

    assert many < 1.5 * few


def test_calls_are_measured_on_real_scripts(redis_url: str) -> None:
    calibration = Calibration(redis_url)

    assert calibration._create(8) > 0
    assert all(cost > 0 for cost in calibration._life(8))


def test_merging_tokens_spares_redis() -> None:
    one, four = (
        open_loop(
            COSTS, Shape(4, 2, tokens=16, step=0.01, merge=merge), 50.0, seconds=4.0
        ).redis_us["events"]
        for merge in (1, 4)
    )

    assert four < one
    assert not math.isclose(four, one, rel_tol=0.1)
