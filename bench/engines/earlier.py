"""One random model in this build, in it one text after the other, and in an earlier build: in turns.

A turn is a process of its own, since both builds have modules of the same names.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from bench.engines.driving import Failed
from bench.engines.result import Alike, Part, Ratio, Series, common, same
from bench.engines.workload import Demand
from bench.programs import REPOSITORY

EARLIER = "83a280e"
"""A commit that ran one by one whatever keeps states, looks over windows or has sinks."""

PATIENCE = 1200.0
"""Seconds for a turn: one text after the other takes minutes on a busy machine."""


class Model(msgspec.Struct, frozen=True):
    """What is run. `way` is how this build must run it; `goal`, what was aimed at, as it is printed."""

    part: str
    name: str
    folder: Path
    millions: float
    way: str
    goal: str


def beside_earlier(
    model: Model, asked: Sequence[Demand], rounds: int, earlier: Path | None
) -> Part:
    """`rounds` turns of each way; `earlier` is the other checkout, if there is one. Raises `Failed`."""
    name, ours = model.name, model.way
    subjects = {ours: (REPOSITORY, "own"), "one by one": (REPOSITORY, "static")}
    if earlier is not None:
        subjects[f"build {EARLIER}"] = (earlier, "own")
    rates: dict[str, list[float]] = {subject: [] for subject in subjects}
    cpu: dict[str, list[float]] = {subject: [] for subject in subjects}
    said: dict[str, list[list[int]]] = {}
    tokens = sum(demand.wanted for demand in asked)
    for _ in range(rounds):
        for subject, (checkout, way) in subjects.items():
            turn = _turn(checkout, model.folder, way, asked)
            if subject == ours and turn["batching"] != ours:
                raise Failed(f"{name} runs {turn['batching']}")
            rates[subject].append(tokens / turn["seconds"])
            cpu[subject].append(turn["cpu"])
            said[subject] = turn["tokens"]
            rate = rates[subject][-1]
            print(f"{model.part}  {name}, {subject}: {rate:,.0f} tokens/s", flush=True)
    others = [subject for subject in subjects if subject != ours]
    return Part(
        model.part,
        f"A random {name} of {model.millions:.0f}M parameters, fp32, one thread, {len(asked)} texts at once",
        series=[
            series
            for subject in subjects
            for series in (
                Series(subject, "tokens/s", rates[subject]),
                Series(subject, "processor s", cpu[subject], digits=2),
            )
        ],
        ratios=[
            ratio
            for subject in others
            for ratio in (
                Ratio(
                    f"{name}, tokens/s / {subject}",
                    model.goal,
                    common(rates[ours], rates[subject]),
                ),
                Ratio(
                    f"{name}, processor s of {subject} / {ours}",
                    model.goal,
                    common(cpu[subject], cpu[ours]),
                ),
            )
        ],
        alike=[
            Alike(f"the same tokens as {subject}", same(said[ours], said[subject]), len(asked))
            for subject in others
        ],
        settings=[
            f"prompts of {_range(len(d.prompt) for d in asked)} tokens, {_range(d.wanted for d in asked)} "
            "new tokens each, greedy; a process a turn, loading not timed",
            *([] if earlier else [f"no commit {EARLIER} in this repository: not compared with it"]),
        ],
    )


@contextmanager
def earlier_build(folder: Path) -> Iterator[Path | None]:
    """The earlier build in a work tree of its own; None where the repository does not have it."""
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        [*git, "add", "--detach", str(folder), EARLIER], capture_output=True, check=False
    )
    try:
        yield folder if made.returncode == 0 else None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([*git, "prune"], capture_output=True, check=False)


def _turn(checkout: Path, folder: Path, way: str, asked: Sequence[Demand]) -> Any:
    ran = subprocess.run(
        [sys.executable, str(REPOSITORY / "bench/engines/build_turn.py"), str(folder), way],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        input=json.dumps([(demand.prompt, demand.wanted) for demand in asked]),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if ran.returncode != 0:
        raise Failed(f"{checkout.name} failed: {ran.stderr[-500:]}")
    return json.loads(ran.stdout.splitlines()[-1])


def _range(sizes: Iterable[int]) -> str:
    """The least and the most of them, in words."""
    found = sorted(sizes)
    return f"{found[0]} to {found[-1]}" if found[0] != found[-1] else f"{found[0]}"
