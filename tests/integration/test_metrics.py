"""Metrics of the real processes, on one page and in a real Prometheus."""

import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from redis import Redis

from shared.telemetry.metrics.catalogue import METRICS
from tests.conftest import eventually, require
from tests.deploy.test_grafana import dashboards, panels
from tests.integration.conftest import ECHO, REPOSITORY
from tests.integration.prometheus import Prometheus
from tests.integration.stack import TOKEN, Stack
from tests.integration.traffic import SETTINGS, WORDS, a_bad_hour, catalogue, everyday
from tests.ports import free_port
from tests.promql import rules
from tests.shared.telemetry.conftest import Scrape

OPERATOR = {"Authorization": f"Bearer {TOKEN}"}
BY_CONTRACT = "inference_request_duration_ms metric names should not contain abbreviated units"
"""promtool would have seconds; the name is fixed."""

OFTEN_IDLE = ("Cache hit ratio", "How far off the estimated start was")
"""Panels whose queries give series, but no number where no result was looked up and no job had to wait."""


class Metered(Stack):
    """A stack whose worker shows its own metrics, too."""

    own_port = 0
    illness = Path()

    def scrape(self) -> Scrape:
        return Scrape(self.page())

    def page(self, accept: str = "text/plain") -> str:
        headers = {"Accept": accept, **OPERATOR}
        response = httpx.get(f"{self.url}/metrics", headers=headers, timeout=10)
        assert response.status_code == 200
        return response.text


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metered]:
    port, illness = free_port(), tmp_path_factory.mktemp("illness")
    settings = {**SETTINGS, "METRICS_PORT": str(port)}
    stack = Metered(tmp_path_factory.mktemp("stack") / "s", catalogue(illness), settings)
    stack.own_port, stack.illness = port, illness
    # In this order, so that the port is the worker's; the rescuer finds it taken and goes on.
    stack.worker("echo")
    eventually(lambda: answers(f"http://127.0.0.1:{port}/metrics"), what="the worker's own page")
    stack.serve()
    stack.start("batches", "batches")
    stack.ready("echo")
    yield stack
    stack.stop()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, headers=OPERATOR).status_code == 200
    except httpx.HTTPError:
        return False


def test_one_page_has_all_processes(stack: Metered) -> None:
    with stack.client() as client:
        everyday(client)

    def told() -> bool:
        return stack.scrape().sum("inference_attempts_total", end="succeeded") >= 5

    eventually(told, what="what the worker counted")
    seen = stack.scrape()
    assert seen.sum("inference_requests_total", endpoint="/v1/infer") >= 5
    assert seen.sum("inference_errors_4xx_total", endpoint="other") >= 1
    assert seen.sum("inference_time_to_first_token_seconds_count") >= 5
    assert seen.sum("inference_time_between_tokens_seconds_count") >= 5 * 8
    assert seen.sum("inference_device_seconds_total") > 0
    engines = seen.named("inference_engine_state")
    states = {s.labels["state"]: s.value for s in engines if s.labels["model"] == "echo"}
    assert states["ready"] + states["busy"] == sum(states.values()) == 1
    eventually(
        lambda: parts(stack.scrape()) == {"api", "batches", "rescue", "worker-echo", "engine-echo"}
    )
    assert "METRICS_PORT: cannot listen" in stack.log("rescue")
    own = Scrape(httpx.get(f"http://127.0.0.1:{stack.own_port}/metrics").text)
    assert own.sum("inference_attempts_total") >= 5 and not own.named("inference_requests_total")


def parts(seen: Scrape) -> set[str]:
    return {s.labels["process"] for s in seen.named("process_memory_bytes") if s.value > 0}


def test_every_metric_has_samples_and_the_labels_it_says(stack: Metered) -> None:
    seen = stack.scrape()
    for metric in METRICS:
        name = metric.name + ("_count" if metric.kind == "histogram" else "")
        found = seen.named(name)
        assert found, metric.name
        assert all(set(sample.labels) == set(metric.labels) for sample in found)


def test_promtool_finds_no_fault(stack: Metered) -> None:
    promtool = shutil.which("promtool")
    require(promtool, "promtool (Debian's package `prometheus`)")
    for page in (stack.page(), httpx.get(f"http://127.0.0.1:{stack.own_port}/metrics").text):
        checked = subprocess.run(
            [str(promtool), "check", "metrics"], input=page, capture_output=True, text=True
        )
        assert set(checked.stderr.splitlines()) <= {BY_CONTRACT}


def test_a_late_write_is_counted_as_fenced(stack: Metered) -> None:
    redis = Redis.from_url(stack.redis.url)
    before = stack.scrape().sum("inference_fenced_writes_total")
    with stack.client() as client:
        job = client.submit("echo", WORDS, params={"step_ms": 200})
        eventually(lambda: client.get(job.id).status == "running")

        def taken_away() -> bool:
            # Its worker renews the lease, so the rescuer may have to be shown more than once that it ran out.
            redis.zadd("truthgpt:leases:echo", {job.id: 1}, xx=True)
            return client.get(job.id).attempt > 1

        eventually(taken_away)
        eventually(lambda: stack.scrape().sum("inference_fenced_writes_total") > before)
        assert stack.scrape().sum("inference_rescued_jobs_total", outcome="requeued") >= 1
        client.cancel(job.id)
    redis.close()


def test_a_killed_worker_leaves_its_counts_and_no_gauge(stack: Metered) -> None:
    with stack.client() as client:
        stack.worker("echo", 2)
        stack.kill("worker-echo-1")
        client.infer("echo", "so that the other one serves")
        job = client.submit("echo", WORDS * 20, params={"step_ms": 50})
        eventually(lambda: stack.scrape().sum("inference_active_batches") == 1)
        counted = stack.scrape().sum("inference_attempts_total")
        assert counted >= 5, "the dead one's are among them"

        stack.kill("worker-echo-2")
        seen = stack.scrape()
        assert seen.named("inference_active_batches") == []
        assert parts(seen) == {"api", "batches", "rescue"}
        assert seen.sum("inference_attempts_total") == counted
        stack.worker("echo", 1)
        client.cancel(job.id)
        job.wait(60)
    eventually(lambda: stack.scrape().sum("inference_active_batches") == 0)


@pytest.fixture(scope="module")
def prometheus(stack: Metered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has seen a bad hour of the stack."""
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus") / "p", stack.port)
    stack.worker("ill")
    stack.ready("echo", "ill")
    eventually(lambda: prometheus.query("up == 1"), what="a scrape")
    a_bad_hour(stack, stack.illness)
    yield prometheus
    prometheus.stop()


def lacking(prometheus: Prometheus, stack: Metered, queries: Mapping[str, str]) -> dict[str, str]:
    """The queries that give no number, though there is some load for a minute."""
    left = dict(queries)
    deadline = time.monotonic() + 60
    with stack.client() as client:
        while left and time.monotonic() < deadline:
            everyday(client, 2)
            left = {name: query for name, query in left.items() if not numbers(prometheus, query)}
    return left


def numbers(prometheus: Prometheus, query: str) -> list[float]:
    values = [float(sample["value"][1]) for sample in prometheus.query(query)]
    return [value for value in values if math.isfinite(value)]


def test_the_queries_of_the_docs_have_data_in_a_real_prometheus(
    stack: Metered, prometheus: Prometheus
) -> None:
    docs = (REPOSITORY / "docs" / "metrics.md").read_text("utf-8")
    [block] = re.findall(r"```promql\n(.*?)```", docs, re.DOTALL)
    queries = block.strip().splitlines()
    assert len(queries) == 4
    assert not lacking(prometheus, stack, {query: query for query in queries[:3]})
    assert prometheus.query(queries[3]), "not a number where nothing was looked up, but there"
    errors = prometheus.query(queries[2])
    assert {s["metric"]["endpoint"] for s in errors} >= {"/v1/infer", "other"}


def test_every_panel_of_the_dashboards_has_data(stack: Metered, prometheus: Prometheus) -> None:
    shown = {
        f"{dashboard['uid']}: {panel['title']}: {target['legendFormat']}": resolved(target["expr"])
        for dashboard in dashboards()
        for panel in panels(dashboard)
        for target in panel["targets"]
    }
    idle = {name for name in shown if any(title in name for title in OFTEN_IDLE)}
    assert len(idle) == len(OFTEN_IDLE)
    assert not lacking(prometheus, stack, {n: q for n, q in shown.items() if n not in idle})
    assert [name for name in idle if not prometheus.query(shown[name])] == []


def resolved(query: str) -> str:
    """A query as Grafana sends it, with everything chosen."""
    for name, value in {
        "__rate_interval": "1m",
        "__range": "5m",
        "model": ".*",
        "tenant": ".*",
    }.items():
        query = query.replace(f"${name}", value)
    assert "$" not in query
    return query


def test_the_filters_of_the_dashboards_offer_what_there_is(prometheus: Prometheus) -> None:
    offered = {"model": {"echo", "ill"}, "tenant": {"default", "acme", "others"}}
    for dashboard in dashboards():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                [(metric, label)] = re.findall(
                    r"label_values\((\w+), (\w+)\)", variable["definition"]
                )
                assert label == variable["name"]
                assert set(prometheus.label_values(metric, label)) == offered[label]


def test_a_real_prometheus_evaluates_every_rule(prometheus: Prometheus) -> None:
    eventually(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()))
    assert len(prometheus.rules()) == len(rules())


def test_a_page_comes_though_redis_is_gone(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack(ECHO)
    stack.start("api", "api")
    url = f"{stack.url}/metrics"
    eventually(lambda: answers(url))
    stack.redis.stop()

    def page_of(url: str) -> str:
        return httpx.get(url, headers=OPERATOR, timeout=60).text

    eventually(lambda: Scrape(page_of(url)).sum("inference_redis_up") == 0)
    assert "inference_requests_total{" in page_of(url), "what the process counted is still there"


def test_switched_off_there_is_no_page_and_no_file(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack(ECHO, ENABLE_METRICS="false")
    stack.start("api", "api")
    eventually(lambda: answers(f"{stack.url}/health"))
    assert httpx.get(f"{stack.url}/metrics", headers=OPERATOR).status_code == 404
    assert not (stack.folder / "state" / "metrics").exists()


def test_the_library_is_loaded_by_those_who_keep_metrics_alone() -> None:
    code = "import sys, api.app, api.routes.metrics, workers.runtime, workers.queue.rescuer\n"
    code += "sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
