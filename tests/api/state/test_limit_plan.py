import pytest

from api.state.limit_plan import Counted, Plan

POST, GET = "POST /v1/infer", "GET /v1/jobs"


def quotas(
    plan: Plan,
    endpoint: str = POST,
    counted: Counted = Counted.SUBMIT,
    rpm: int | None = None,
    rph: int | None = None,
) -> dict[str, tuple[int, int]]:
    found = plan.policies(endpoint, counted, rpm, rph)
    return {policy.name: (policy.quota, policy.seconds) for policy in found}


def test_submissions_and_everything_else_count_apart() -> None:
    plan = Plan(rpm=600)

    assert quotas(plan) == {"submit": (600, 60)}
    assert quotas(plan, GET, Counted.OTHER) == {"other": (6000, 60)}
    assert quotas(Plan(rpm=600, other_rpm=50), GET, Counted.OTHER) == {"other": (50, 60)}


@pytest.mark.parametrize(("window", "quota"), [(1, 10), (60, 600), (3600, 36_000)])
def test_a_limit_a_minute_is_counted_in_any_window(window: int, quota: int) -> None:
    assert quotas(Plan(rpm=600, window=window)) == {"submit": (quota, window)}


def test_a_small_limit_in_a_short_window_still_lets_one_through() -> None:
    assert quotas(Plan(rpm=6, window=1)) == {"submit": (1, 1)}


def test_the_hour_bounds_a_burst() -> None:
    assert quotas(Plan(rpm=60, burst=40)) == {"submit": (100, 60), "submit-hour": (3600, 3600)}
    assert quotas(Plan(rpm=60, burst=40, rph=500))["submit-hour"] == (500, 3600)


def test_a_keys_own_limits_come_first() -> None:
    plan = Plan(rpm=600, rph=9000)

    assert quotas(plan, rpm=5) == {"submit": (5, 60), "submit-hour": (9000, 3600)}
    assert quotas(plan, rph=7) == {"submit": (600, 60), "submit-hour": (7, 3600)}
    assert quotas(plan, GET, Counted.OTHER, rpm=5) == {"other": (50, 60)}


def test_an_endpoints_own_limit_replaces_the_one_a_minute() -> None:
    plan = Plan(rpm=600, rph=9000, endpoints={POST: 3, GET: 0})

    assert quotas(plan) == {POST: (3, 60), "submit-hour": (9000, 3600)}
    assert quotas(plan, "POST /v1/jobs") == {"submit": (600, 60), "submit-hour": (9000, 3600)}
    assert quotas(plan, GET, Counted.OTHER) == {}


def test_no_limit_is_no_policy() -> None:
    plan = Plan(rpm=0)

    assert quotas(plan) == quotas(plan, GET, Counted.OTHER) == {}
    assert plan.strangers() == plan.tokens() == plan.all(None, None) == []
