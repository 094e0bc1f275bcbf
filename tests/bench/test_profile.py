"""Stages of stacks, sums that hold, the timeline of a lone client, and the hook in a real process."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.profile.result import REST, redis_stages, stages
from bench.profile.sampler import Sampler, stacks
from bench.profile.scripts import Calls
from bench.profile.stages import OTHER, stage_of
from bench.profile.timeline import LEGS, MARKS, summarise
from bench.programs import REPOSITORY
from tests.conftest import eventually

BUSY = "def spin():\n    while True:\n        sum(range(1000))\nspin()\n"


@pytest.mark.parametrize(
    ("group", "stack", "stage"),
    [
        ("front end", ["handle (gunicorn/x.py)", "admit (api/http/limits.py)"], "limits"),
        (
            "front end",
            [
                "admit (api/http/limits.py)",
                "call (shared/redis/script_pipeline.py)",
                "send (gevent/_socketcommon.py)",
            ],
            "Redis client",
        ),
        (
            "front end",
            ["call (shared/redis/script_pipeline.py)", "acquire (gevent/lock.py)"],
            "gevent",
        ),
        (
            "worker",
            ["run (threading.py)", "_run (workers/execution/event_writer.py)", "send (redis/x.py)"],
            "event writer",
        ),
        ("engine", ["main (workers/host/__main__.py)", "step (workers/engines/echo.py)"], "engine"),
        ("engine", ["run (threading.py)"], OTHER),
    ],
)
def test_the_innermost_frame_that_is_known_decides(
    group: str, stack: list[str], stage: str
) -> None:
    assert stage_of(group, stack) == stage


def test_stages_add_up_to_what_was_measured() -> None:
    found = stages({"worker": 0.2}, {"worker": {"claim": 30.0, "executor": 10.0}})
    assert found["worker"] == pytest.approx({"claim": 150.0, "executor": 50.0})
    assert stages({"worker": 0.2}, {"worker": {}}) == {"worker": {}}


def test_redis_is_its_scripts_and_the_rest() -> None:
    called = {"create": Calls(1.0, 60.0), "claim": Calls(0.1, 20.0)}
    found = redis_stages(0.1, 80.0, called)
    assert found == pytest.approx({"script create": 60.0, "script claim": 20.0, REST: 20.0})
    crowded = redis_stages(0.04, 80.0, called)
    assert crowded == pytest.approx({"script create": 30.0, "script claim": 10.0, REST: 0.0})


def test_the_legs_of_a_request_lie_between_what_redis_saw() -> None:
    seen = [(0.5, "write")]
    for began in (1.0, 2.0):
        for number, mark in enumerate(MARKS[1:-1], 1):
            seen.append((began + number / 1000, mark))
    found = summarise([(1.0, 1.006), (2.0, 2.006), (3.0, 3.1)], seen)
    assert found.requests == 3 and found.p50 == pytest.approx(6.0)
    assert found.legs[:-1] == pytest.approx([1.0] * (len(LEGS) - 1))
    assert found.legs[-1] == pytest.approx(2.0)
    with pytest.raises(ValueError, match="none was seen"):
        summarise([(1.0, 1.006)], seen[:3])


def test_a_process_samples_itself_while_it_is_wanted(tmp_path: Path) -> None:
    sampler = Sampler(tmp_path / "stacks")
    env = {**sampler.env, "PATH": ""}
    process = subprocess.Popen([sys.executable, "-c", BUSY], cwd=REPOSITORY, env=env)
    path = tmp_path / "stacks" / f"stacks-{process.pid}"

    def spun() -> bool:
        return any("spin (<string>)" in stack for stack, _ in stacks(path))

    try:
        sampler.start()
        eventually(spun, what="the busy function is among the samples")
        found = list(stacks(path))
    finally:
        process.kill()
        process.wait()
    assert all(spent > 0 for _, spent in found)
    assert sampler.stop({"engine": [process.pid]})["engine"].keys() == {OTHER}
