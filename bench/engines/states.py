"""Models that keep states: their texts side by side, beside the same one by one and an earlier build."""

from pathlib import Path

from bench.engines.earlier import Model, beside_earlier, earlier_build
from bench.engines.families import FAMILIES, save_family
from bench.engines.plan import Plan
from bench.engines.result import Part
from bench.engines.workload import Demand, demands

TEXTS = 16
GOAL = "≥ 2.5"


def states(plan: Plan, scratch: Path) -> list[Part]:
    """A part for each family."""
    asked = [
        Demand(demand.prompt[: plan.states_prompt], plan.states_tokens)
        for demand in demands(TEXTS, most=plan.states_tokens)
    ]
    with earlier_build(scratch / "earlier") as earlier:
        return [
            beside_earlier(_saved(name, scratch / name), asked, plan.rounds, earlier)
            for name in FAMILIES
        ]


def _saved(name: str, folder: Path) -> Model:
    return Model("states", name, folder, save_family(name, folder), "stacked", GOAL)
