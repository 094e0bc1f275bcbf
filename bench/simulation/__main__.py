"""`python -m bench.simulation [--calibrate | --validate]`: measure the costs, check the model, or run it."""

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench.files import write
from bench.machine import Machine, look_around
from bench.programs import REPOSITORY
from bench.simulation.calibrate import Calibration
from bench.simulation.costs import RESULTS, SUFFIX, Costs, newest
from bench.simulation.report import tables, validation
from bench.simulation.stack import Load, Real, measure, process_costs
from shared.embedded_redis import EmbeddedRedis

SCRATCH = REPOSITORY / ".bench" / "simulation"
SMALL = [Load(workers, 64, 50.0, 4, warm_up=24.0, seconds=12.0) for workers in (1, 2, 4)]


class Simulation(msgspec.Struct, frozen=True):
    date: str
    costs: Costs
    tables: list[str]


class Validation(msgspec.Struct, frozen=True):
    date: str
    machine: Machine
    costs: Costs
    found: list[Real]
    table: str


def main() -> int:
    options = _options()
    today = datetime.now(UTC).date().isoformat()
    if options.calibrate:
        costs = _calibrate(today)
        path = options.results / f"{today}{SUFFIX}"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(costs), indent=1) + b"\n")
        print(f"wrote {path}")
        return 0
    costs = newest(options.results)
    if options.validate:
        machine = look_around()
        found = [measure(load, SCRATCH) for load in SMALL]
        text = validation(costs, found)
        print(text)
        result = Validation(today, machine, costs, found, text)
        write(result, text + "\n", options.results, f"{today}-simulation-validation")
        return 0
    said = [_costs(costs)]
    print(said[0])
    for text in tables(costs):
        print(f"\n{text}", flush=True)
        said.append(text)
    whole = "\n\n".join(said) + "\n"
    write(Simulation(today, costs, said), whole, options.results, f"{today}-simulation")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.simulation", description=__doc__)
    parser.add_argument("--calibrate", action="store_true", help="measure what calls cost, minutes")
    parser.add_argument("--validate", action="store_true", help="beside a real stack, minutes")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def _calibrate(date: str) -> Costs:
    machine = look_around()
    one_shot = measure(Load(1, 64), SCRATCH)
    processes = process_costs(one_shot, SCRATCH)
    with tempfile.TemporaryDirectory(prefix="simulation-") as folder:
        server = EmbeddedRedis(Path(folder))
        server.start()
        try:
            redis = Calibration(server.url).run()
        finally:
            server.stop()
    return Costs(date, machine, redis, processes)


def _costs(costs: Costs) -> str:
    machine = costs.machine
    lines = [
        f"# The job protocol simulated, costs of {costs.date}",
        "",
        f"Costs: {machine.cpu}, {machine.cores} cores, Redis {machine.redis}, commit "
        f"{machine.commit}, load before {machine.load}. Processor microseconds.",
        "",
    ]
    for title, part in (("Redis, main thread", costs.redis), ("other processes", costs.processes)):
        named = ", ".join(f"{k} {v:.1f}" for k, v in msgspec.structs.asdict(part).items())
        lines += [f"{title}: {named}.", ""]
    return "\n".join(lines[:-1])


if __name__ == "__main__":
    sys.exit(main())
