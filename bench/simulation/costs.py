"""What each part of the protocol costs: measured by `calibrate`, kept in bench/results, read from there."""

from pathlib import Path
from typing import Any

import msgspec

from bench.machine import Machine
from bench.programs import REPOSITORY

RESULTS = REPOSITORY / "bench" / "results"
SUFFIX = "-simulation-costs.json"
MICRO = 1e-6


class RedisCosts(msgspec.Struct, frozen=True):
    """Processor microseconds of Redis' main thread. A trip is a pipeline's way in and out.

    claim, write, beat and rescue hold their trip, as they travel alone; `create` holds its client's charge,
    `finish` the message to the process that waits, `append` the message to nobody; `subscriber` is one
    delivery of an event, `token` each further token of an append. `listener` is one delivery of a call to a
    worker, on a connection of its own; `flush` is one message of Flower's events, `flower_job` a job in it.
    """

    trip: float
    create: float
    claim: float
    claim_job: float
    claim_nothing: float
    write: float
    append: float
    token: float
    subscriber: float
    finish: float
    subscribe: float
    beat: float
    beat_lease: float
    listener: float
    rescue: float
    rescue_worker: float
    flush: float
    flower_job: float


class ProcessCosts(msgspec.Struct, frozen=True):
    """Processor microseconds of the other processes, measured on the whole stack.

    `api_job`, `worker_job`, `engine_job`: a one-shot job. `api_event`, `worker_event`, `engine_event`:
    what an event of a streamed job adds. `client_job` is the load generator's.
    """

    api_job: float
    worker_job: float
    engine_job: float
    client_job: float
    api_event: float
    worker_event: float
    engine_event: float


class Costs(msgspec.Struct, frozen=True):
    """One calibration."""

    date: str
    machine: Machine
    redis: RedisCosts
    processes: ProcessCosts


def newest(folder: Path = RESULTS) -> Costs:
    """The last calibration. Raises `FileNotFoundError` where there is none."""
    files = sorted(folder.glob(f"*{SUFFIX}"))
    if not files:
        raise FileNotFoundError(
            f"no *{SUFFIX} in {folder}; run python -m bench.simulation --calibrate"
        )
    return msgspec.json.decode(files[-1].read_bytes(), type=Costs)


def main_thread_us(redis: Any) -> float:
    """Processor microseconds of a Redis server's main thread since its start."""
    info = redis.info("cpu")
    return 1e6 * float(info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"])
