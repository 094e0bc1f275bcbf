import pytest

from workers.engines.text_generation.speculation.costs import Outlook, StepCosts

FREE = StepCosts({1: 1.0, 4: 1.0}, {2: 1.0, 16: 1.0})
LINEAR = StepCosts({1: 1.0, 4: 4.0}, {2: 2.0, 16: 16.0})


def length(costs: StepCosts, rate: float, most: int, rows: int, *, mixed: bool = False) -> int:
    return costs.best(rate, most, Outlook(rows, rows, mixed)).rows - rows


def test_where_more_tokens_cost_nothing_a_draft_is_as_long_as_it_may_be() -> None:
    assert length(FREE, 0.5, 15, 1) == 15
    assert length(FREE, 0.5, 7, 1) == 6


def test_where_each_token_costs_the_same_there_is_no_draft() -> None:
    assert length(LINEAR, 0.95, 15, 1) == 0


@pytest.mark.parametrize(("rate", "least", "most"), [(0.1, 0, 1), (0.6, 2, 4), (0.98, 11, 15)])
def test_the_likelier_a_draft_the_longer(rate: float, least: int, most: int) -> None:
    costs = StepCosts({1: 1.0}, {2: 1.1, 16: 2.0})

    assert least <= length(costs, rate, 15, 1) <= most


def test_a_draft_must_pay_for_the_graphs_that_its_step_cannot_use() -> None:
    costs = StepCosts({1: 1.0, 8: 1.1}, {2: 3.0, 16: 3.1})

    assert length(costs, 0.6, 15, 1) == 0
    assert length(costs, 0.95, 15, 1) == 15
    assert length(costs, 0.6, 15, 2, mixed=True) > 0


def test_a_full_batch_leaves_less_to_be_won() -> None:
    costs = StepCosts({1: 1.0, 32: 4.0}, {2: 1.1, 16: 1.9, 33: 4.1, 48: 6.0})

    assert length(costs, 0.6, 15, 1) > 0
    assert length(costs, 0.6, 15, 32) == 0


def test_drafts_of_others_are_worth_what_is_hoped_of_them() -> None:
    costs = StepCosts({1: 1.0, 4: 1.2}, {2: 1.2, 64: 4.0})
    worthy, doubtful = Outlook(40, 40.0, mixed=True), Outlook(40, 12.0, mixed=True)

    assert costs.best(0.6, 15, worthy).rows == 40
    assert costs.best(0.6, 15, doubtful).rows > 40
    assert costs.best(0.6, 15, doubtful).worth > 12.0
