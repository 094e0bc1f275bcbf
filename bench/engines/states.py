"""Models that keep states: their texts side by side, beside the same one by one and an earlier build."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.engines.driving import Failed
from bench.engines.families import FAMILIES, save_family
from bench.engines.generating import PATIENCE
from bench.engines.plan import Plan
from bench.engines.result import Alike, Part, Ratio, Series, common, same
from bench.engines.workload import Demand, demands
from bench.programs import REPOSITORY

TEXTS = 16
EARLIER = "b4c23f5"
"""The last commit that ran all of these one by one."""
GOAL = "≥ 2.5"


def states(plan: Plan, scratch: Path) -> list[Part]:
    """A part for each family."""
    asked = [
        Demand(demand.prompt[: plan.states_prompt], plan.states_tokens)
        for demand in demands(TEXTS, most=plan.states_tokens)
    ]
    with _checkout(scratch / "earlier") as earlier:
        return [_family(name, asked, plan.rounds, scratch / name, earlier) for name in FAMILIES]


def _family(
    name: str, asked: Sequence[Demand], rounds: int, folder: Path, earlier: Path | None
) -> Part:
    millions = save_family(name, folder)
    subjects = {"stacked": (REPOSITORY, "own"), "one by one": (REPOSITORY, "static")}
    if earlier is not None:
        subjects[f"build {EARLIER}"] = (earlier, "own")
    rates: dict[str, list[float]] = {subject: [] for subject in subjects}
    cpu: dict[str, list[float]] = {subject: [] for subject in subjects}
    said: dict[str, list[list[int]]] = {}
    tokens = sum(demand.wanted for demand in asked)
    for _ in range(rounds):
        for subject, (checkout, way) in subjects.items():
            turn = _turn(checkout, folder, way, asked)
            if subject == "stacked" and turn["batching"] != "stacked":
                raise Failed(f"{name} runs {turn['batching']}")
            rates[subject].append(tokens / turn["seconds"])
            cpu[subject].append(turn["cpu"])
            said[subject] = turn["tokens"]
            print(f"states  {name}, {subject}: {rates[subject][-1]:,.0f} tokens/s", flush=True)
    others = [subject for subject in subjects if subject != "stacked"]
    return Part(
        "states",
        f"A random {name} of {millions:.0f}M parameters, fp32, one thread, {len(asked)} texts at once",
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
                    f"{name}, tokens/s / {subject}", GOAL, common(rates["stacked"], rates[subject])
                ),
                Ratio(
                    f"{name}, processor s of {subject} / stacked",
                    GOAL,
                    common(cpu[subject], cpu["stacked"]),
                ),
            )
        ],
        alike=[
            Alike(f"the same tokens as {subject}", same(said["stacked"], said[subject]), len(asked))
            for subject in others
        ],
        settings=[
            f"prompts of {min(len(d.prompt) for d in asked)} to {max(len(d.prompt) for d in asked)} tokens, "
            f"{asked[0].wanted} new tokens each, greedy; a process a turn, loading not timed",
            *([] if earlier else [f"no commit {EARLIER} in this repository: not compared with it"]),
        ],
    )


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


@contextmanager
def _checkout(folder: Path) -> Iterator[Path | None]:
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
