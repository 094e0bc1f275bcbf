"""Every fault that docs/faults.md names happens on a real worker, and ends as that table says."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.domain.models.catalog import Breaker
from shared.domain.states import JobState
from shared.store.jobs import JobStore
from tests.conftest import eventually
from tests.workers.bench import Bench
from workers.engine_host.client import HostOptions

TABLE = Path(__file__).parents[2] / "docs" / "faults.md"
ENGINE = "tests.workers.faulty:Faulty"
MODEL = "tests.workers.faulty:FaultyModel"
PROMPTS = {
    "input that the engine refuses": (ENGINE, "refuse"),
    "an exception before the model runs": (ENGINE, "raise on admission"),
    "`SystemExit` before the model runs": (ENGINE, "quit on admission"),
    "a hang before the model runs": (ENGINE, "hang on admission"),
    "`os._exit` before the model runs": (ENGINE, "exit on admission"),
    "an exception in a step": (ENGINE, "raise"),
    "`SystemExit` in a step": (ENGINE, "quit"),
    "a row that fails alone": (ENGINE, "break"),
    "too few outputs": (MODEL, "few"),
    "too many outputs": (MODEL, "many"),
    "NaN in an output": (MODEL, "nan"),
    "output that is no JSON": (ENGINE, "object"),
    "output over `MAX_OUTPUT_BYTES`": (ENGINE, "blob 2000000"),
    "usage that is no count": (ENGINE, "half a token"),
    "host memory exhausted": (ENGINE, "hoard"),
    "device memory exhausted": (ENGINE, "memory"),
    "a hang": (ENGINE, "hang"),
    "`os._exit`": (ENGINE, "exit"),
    "a segfault": (ENGINE, "segfault"),
    "a kernel fault on the device": (ENGINE, "device assert"),
    "a device that went away": (ENGINE, "device lost once"),
    "host over `ENGINE_MEMORY_LIMIT`": (ENGINE, "balloon 390"),
}
MIB = 2**20
LIMIT = 400 * MIB


@dataclass(frozen=True)
class Row:
    ends: str
    attempts: int
    neighbours: str
    host: str


def rows() -> dict[str, Row]:
    """The table of the document by its first column."""
    found = {}
    for line in TABLE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[2].isdigit():
            found[cells[0]] = Row(cells[1].strip("`"), int(cells[2]), cells[3], cells[4])
    return found


def test_the_table_and_the_faults_are_the_same() -> None:
    assert set(rows()) == set(PROMPTS)


def together() -> list[tuple[str, list[str]]]:
    """Faults share a worker, but for those that hang or fill the memory, which want a bound of their own."""
    groups: dict[str, list[str]] = {}
    for fault, (engine, prompt) in PROMPTS.items():
        bound = prompt.split()[0] if prompt.startswith(("hang", "balloon")) else "none"
        groups.setdefault(f"{engine.partition(':')[2]}, bound: {bound}", []).append(fault)
    return list(groups.items())


@pytest.fixture
def start(store: JobStore, tmp_path: Path) -> Iterator[Callable[[str, str], Bench]]:
    benches: list[Bench] = []

    def make(engine: str, prompt: str) -> Bench:
        made = Bench(
            store,
            breaker=Breaker(failure_threshold=1000, minimum_volume=1000),
            step_timeout=0.5 if prompt.startswith("hang") else 10.0,
            engine=engine,
            host=HostOptions(LIMIT if prompt.startswith("balloon") else None, max_output=MIB),
            once=str(tmp_path / "once"),
            gate=str(tmp_path / "gate"),
            napping=str(tmp_path / "napping"),
        )
        benches.append(made)
        return made

    yield make
    for bench in benches:
        bench.stop()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("_name", "faults"), together())
def test_a_fault_ends_as_the_table_says(
    _name: str, faults: list[str], start: Callable[[str, str], Bench]
) -> None:
    bench = start(*PROMPTS[faults[0]])
    for fault in faults:
        check(bench, PROMPTS[fault][1], rows()[fault])


def check(bench: Bench, prompt: str, row: Row) -> None:
    client = bench.runtime.executor.engine
    restarts = client.restarts
    streams = client.spec.engine == ENGINE
    if not streams:
        napping = Path(client.spec.options["napping"])
        napping.unlink(missing_ok=True)
        bench.submit("nap")
        eventually(napping.exists, what="the nap has begun, alone")
    neighbours = [bench.submit("slow 40" if streams else "fine") for _ in range(3)]
    culprit = bench.submit(prompt)
    if not streams:
        eventually(lambda: bench.runtime.executor.active == 5, what="all of them are claimed")
        Path(client.spec.options["gate"]).touch()
    job = bench.ended(culprit, 60)

    if row.ends == "succeeds":
        assert job.status is JobState.SUCCEEDED
    else:
        assert job.status is JobState.FAILED, prompt
        assert job.error is not None and job.error.code == row.ends
    assert job.attempt == row.attempts
    for neighbour in neighbours:
        beside = bench.ended(neighbour, 60)
        assert beside.status is JobState.SUCCEEDED
        fields = bench.store.get(neighbour).fields
        assert fields["failures"] == "0"
        if row.neighbours != "tried again":
            assert fields["crashes"] == "0"
        if row.neighbours in ("go on", "go on, uncharged"):
            assert beside.attempt == 1
    if row.host == "lives":
        assert client.restarts == restarts
    else:
        eventually(lambda: client.restarts > restarts and bench.runtime.executor.ready, 60)
        assert client.restart_seconds is not None
