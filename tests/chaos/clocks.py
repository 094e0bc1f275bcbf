"""Workers whose clocks are wrong: scenario 7. The shift is preloaded (clock.c), so C code sees it too."""

import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.chaos.arena import Arena, Skipped, Wiring
from tests.chaos.history import Accepted, Final
from tests.chaos.load import Mix
from tests.chaos.outages import all_consume

HOUR = 3600
SHIFTS = {1: HOUR, 2: -HOUR, 3: 0}


async def wrong_clocks(arena: Arena) -> None:
    """7: one worker an hour ahead, one an hour behind, one right: nobody takes a job from another."""
    library = _shifter(arena.folder)

    def shifted(number: int) -> dict[str, str]:
        return _environment(library, SHIFTS[number])

    site = await arena.open(workers=3, wiring=lambda _: Wiring(worker=shifted))
    mix = Mix(
        arena.size.n, concurrency=300, words=(6, 40), step_ms=(15, 120), cancels=0.0, hasty=0.0
    )
    async with arena.load(mix):
        await all_consume(site, time.time(), *SHIFTS)
    arena.faults = sum(shift != 0 for shift in SHIFTS.values())
    stolen = [final.job for final in arena.history.of(Final) if final.attempt != 1]
    arena.require(not stolen, f"{len(stolen)} jobs were taken from a live worker")
    names = {site.worker_name(number): f"{SHIFTS[number] // HOUR:+d} h" for number in SHIFTS}
    done: Counter[str] = Counter()
    for entry in arena.history.of(Accepted):
        worker = site.store.redis.hget(site.store.keys("job", entry.job), "worker")
        done[names.get(worker.decode() if isinstance(worker, bytes) else "", "?")] += 1
    arena.note(
        "jobs by the clock of their worker: " + ", ".join(f"{k} {v}" for k, v in done.items())
    )


def _shifter(folder: Path) -> Path:
    """Compile the preload library and see that it works. Raises `Skipped`."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise Skipped("a C compiler (cc), which makes the library that shifts a clock")
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    told = subprocess.run(
        [sys.executable, "-c", "import datetime; print(datetime.datetime.now().timestamp())"],
        env=_environment(library, HOUR),
        capture_output=True,
        check=True,
    )
    if abs(float(told.stdout) - time.time() - HOUR) > 60:
        raise Skipped("a Python whose clock can be shifted by LD_PRELOAD")
    return library


def _environment(library: Path, shift: int) -> dict[str, str]:
    return {"LD_PRELOAD": str(library), "CLOCK_SHIFT_SEC": str(shift)}
