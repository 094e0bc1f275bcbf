"""`python -m bench.profile`: where each job's microseconds go, stage by stage.

Three turns of the same stack: one that nobody watches, for the whole (processor time, Redis commands); one
whose processes sample themselves and whose Redis keeps a slow log, for the shares; one with a lone client,
for the timeline.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping

from redis import Redis

from bench.clients.order import Mark, Order, Report
from bench.command import SCRATCH, parser, publish, run, today
from bench.profile import scripts, timeline
from bench.profile.result import Profile, redis_stages, render, stages
from bench.profile.sampler import Sampler
from bench.profile.stages import SAMPLED
from bench.reporting.accounting import Cost, Counters, cost, read
from bench.reporting.machine import look_around
from bench.subjects import Serving
from bench.subjects.ours import Ours
from bench.turn import TurnFailed, put_load

FOLDER = SCRATCH / "profile"
CLIENTS = 64
WARM_UP = 3.0
PATIENCE = 180.0
"""Seconds for all processes to come up: a busy machine takes its time."""
COMMANDS_SHOWN = 0.05


def main() -> int:
    """0 when it ran; 1 with a line on stderr when it could not."""
    options = _options()
    return run(lambda: _measure(options), TurnFailed, OSError, ValueError)


def _measure(options: argparse.Namespace) -> int:
    profile = measure(options.seconds, options.requests)
    publish(profile, render(profile), options.results, f"{profile.date}-profile")
    return 0


def measure(seconds: float, requests: int) -> Profile:
    """All three turns. Raises `TurnFailed`."""
    machine = look_around()
    report, whole = _unwatched(seconds)
    spent, called = _watched(seconds)
    shares = stages(whole.cpu_ms, spent)
    busy = whole.commands["evalsha"].microseconds
    shares["redis"] = redis_stages(whole.cpu_ms["redis"], busy, called)
    return Profile(
        date=today(),
        machine=machine,
        clients=CLIENTS,
        seconds=seconds,
        rate=report.rate,
        cpu_ms=whole.cpu_ms,
        stages=shares,
        commands=sum(command.calls for command in whole.commands.values()),
        calls={n: c.calls for n, c in whole.commands.items() if c.calls >= COMMANDS_SHOWN},
        scripts=called,
        timeline=_alone(requests),
    )


def _unwatched(seconds: float) -> tuple[Report, Cost]:
    counters: dict[str, Counters] = {}

    def mark(moment: str, serving: Serving, redis: "Redis") -> None:
        counters[moment] = read(serving, redis)

    report = _turn(seconds, mark)
    return report, cost(counters["begins"], counters["ends"], report.answers)


def _watched(seconds: float) -> tuple[dict[str, dict[str, float]], dict[str, scripts.Calls]]:
    sampler = Sampler(FOLDER / "stacks")
    spent: dict[str, dict[str, float]] = {}
    called: dict[str, scripts.Calls] = {}

    def mark(moment: str, serving: Serving, redis: "Redis") -> None:
        if moment == "begins":
            sampler.start()
            scripts.listen(redis)
        else:
            called.update(scripts.heard(redis))
            pids = {group: [p.pid for p in serving.groups[group]()] for group in SAMPLED}
            spent.update(sampler.stop(pids))

    _turn(seconds, mark, sampler.env)
    return spent, called


def _turn(
    seconds: float,
    mark: Callable[[str, Serving, "Redis"], None],
    env: Mapping[str, str] | None = None,
) -> Report:
    subject, folder = Ours(env=env), FOLDER / "stack"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with subject.serve(folder) as serving, Redis.from_url(serving.redis_url or "") as redis:
        order = Order(serving.url, subject.dialect, CLIENTS, WARM_UP, seconds, PATIENCE)
        for message in put_load(order, folder):
            if isinstance(message, Mark):
                mark(message.moment, serving, redis)
            else:
                return message
    raise TurnFailed("the load generator gave no report")


def _alone(requests: int) -> timeline.Timeline:
    """A turn of one client. The load generator's first answer says that all is up."""
    subject, folder = Ours(), FOLDER / "alone"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with subject.serve(folder) as serving, Redis.from_url(serving.redis_url or "") as redis:
        for _ in put_load(Order(serving.url, subject.dialect, 1, 1.0, 1.0, PATIENCE), folder):
            pass
        return timeline.measure(
            serving.url, subject.headers, subject.dialect.fields, redis, requests
        )


def _options() -> argparse.Namespace:
    options = parser("bench.profile", __doc__)
    options.add_argument("--seconds", type=float, default=15.0, help="measured in each turn")
    options.add_argument("--requests", type=int, default=500, help="of the lone client")
    return options.parse_args()


if __name__ == "__main__":
    sys.exit(main())
