"""The pages of models: what workers say, and the breaker that an operator closes."""

from collections.abc import Callable

import msgspec

from api.console.pages.models import MOST_FACTS, facts
from shared.store.api_keys import Scope
from shared.store.jobs import JobStore
from tests.api.conftest import PlayedWorker
from tests.api.console.conftest import Browser


def report(store: JobStore, **engine: object) -> None:
    """A live worker of echo says this of its engine."""
    said = {"state": "ready", "active": 1, "capacity": 8, "engine": engine, "host": "machine-7"}
    expiry = int(store.redis.time()[0]) * 1000 + 60_000  # type: ignore[index]
    line = f"{expiry} ".encode() + msgspec.json.encode(said)
    store.redis.hset(store.keys("workers", "echo"), "played", line)
    store.redis.expire(store.keys("workers", "echo"), 60)


def test_the_models_and_their_queues_are_listed(browser: Browser, store: JobStore) -> None:
    browser.post("/console/playground", model="echo", prompt="x")
    report(store)

    page = browser.get("/console/models").text

    assert 'href="/console/models/llama"' in page and 'class="chip ready"' in page
    part = browser.get("/console/models", part="models").text
    assert part.lstrip().startswith("<section")


def test_a_model_s_page_says_how_it_runs_and_why(
    browser: Browser, store: JobStore, signed_in_with: Callable[..., Browser]
) -> None:
    report(store, batching="packed", speculation={"kind": "none", "reason": "<script>no</script>"})

    page = browser.get("/console/models/echo").text

    assert "speculation.reason" in page and "&lt;script&gt;no" in page and "played" in page
    theirs = signed_in_with(Scope.JOBS_READ, tenant="other").get("/console/models/echo").text
    assert "batching" in theirs and "played" not in theirs and "machine-7" not in theirs
    assert "No worker serves this model." in browser.get("/console/models/llama").text
    assert browser.get("/console/models/absent").status_code == 404


def test_a_breaker_is_closed_by_the_operator_alone(
    browser: Browser, store: JobStore, signed_in_with: Callable[..., Browser]
) -> None:
    name = store.keys("breaker", "echo")
    store.redis.hset(name, mapping={"state": "open", "until": "99999999999999", "since": "1"})
    store.redis.expire(name, 60)
    for scopes, tenant in (((Scope.JOBS_WRITE,), "default"), ((Scope.ADMIN,), "other")):
        other = signed_in_with(Scope.JOBS_READ, *scopes, tenant=tenant)
        assert "breaker/reset" not in other.get("/console/models/echo").text
        assert other.post("/console/models/echo/breaker/reset").status_code == 403
    assert "breaker/reset" in browser.get("/console/models/echo").text

    part = browser.post("/console/models/echo/breaker/reset", part="model").text

    assert 'class="chip closed"' in part and "breaker/reset" not in part


def test_facts_are_told_a_line_each_and_not_without_end() -> None:
    told = {"a": 1.0, "b": {"c": [1, "x"], "d": {"e": None}}, "text": "as it is"}

    assert dict(facts(told)) == {"a": "1", "b.c": '[1, "x"]', "b.d.e": "null", "text": "as it is"}
    assert len(list(facts({str(n): n for n in range(1000)}))) == MOST_FACTS


def test_who_waits_and_runs_is_told_to_the_operator_and_others_are_told_of_their_own(
    browser: Browser, signed_in_with: Callable[..., Browser], worker: PlayedWorker
) -> None:
    acme = signed_in_with(Scope.JOBS_READ, Scope.JOBS_WRITE, tenant="acme")
    assert "Who waits" not in browser.get("/console/models/echo").text
    acme.post("/console/playground", model="echo", prompt="x" * 30)
    browser.post("/console/playground", model="echo", prompt="x")

    page = browser.get("/console/models/echo").text
    assert "Who waits" in page and ">acme<" in page and ">default</a>" in page
    part = acme.get("/console/models/echo", part="model").text
    assert "What of yours waits" in part and "default" not in part and "100.0 %" in part
    assert "Whose jobs run" not in page and "What of yours runs" not in part

    worker.take()
    worker.take()
    page = browser.get("/console/models/echo").text
    assert "Whose jobs run" in page and page.count("50.0 %") == 2
    part = acme.get("/console/models/echo", part="model").text
    assert "What of yours runs" in part and part.count("50.0 %") == 1 and "default" not in part
