"""What is shown, a section each: it says its lines and returns whether all is as it must be."""

import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from shared.telemetry.metrics.catalogue import METRICS
from tests.conftest import eventually, require
from tests.deploy.test_grafana import dashboards, panels
from tests.integration.stack import TOKEN
from tests.integration.test_metrics import OFTEN_IDLE, resolved
from tests.integration.traffic import WORDS
from tests.promql import ALERTS
from tests.receivers import receiver, status
from tests.shared.telemetry.conftest import Scrape
from tests.show.site import Site

DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
PATIENCE = 45.0
"""Seconds that queries are given to have data: some need two scrapes within a changing rate."""

OF_A_TRACE = frozenset(
    ("POST", "queue", "attempt", "admit", "prefill", "decode", "append", "deliver")
)
"""The first words of the names of a job's spans, from its request to its webhook."""

Say = Callable[[str], None]


def metrics(site: Site, say: Say) -> bool:
    """Every name of the catalogue on the API's page."""
    operator = {"Authorization": f"Bearer {TOKEN}"}
    page = Scrape(httpx.get(f"{site.stack.url}/metrics", headers=operator, timeout=10).text)
    missing = 0
    for metric in METRICS:
        samples = page.named(metric.name + ("_count" if metric.kind == "histogram" else ""))
        missing += not samples
        say(f"{'present' if samples else 'MISSING'}  {metric.name}  {len(samples)} series")
    say(f"{len(METRICS) - missing} of {len(METRICS)} metrics are present")
    return not missing


def queries(site: Site, say: Say) -> bool:
    """Every query of the documentation and of every panel of every dashboard, in the real Prometheus."""
    asked = dict(_queries())
    found = dict.fromkeys(asked, "NO DATA")
    deadline = time.monotonic() + PATIENCE
    with site.under_load():
        while time.monotonic() < deadline:
            for name, query in asked.items():
                if found[name] != "data":
                    found[name] = _data(site, query)
            if all(_enough(name, said) for name, said in found.items()):
                break
            time.sleep(1)
    for name, said in found.items():
        say(f"{said:<9}  {name}")
    good = sum(_enough(name, said) for name, said in found.items())
    say(f"{good} of {len(asked)} queries have data")
    return good == len(asked)


def _queries() -> Iterator[tuple[str, str]]:
    [block] = re.findall(r"```promql\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    for query in block.strip().splitlines():
        yield f"docs: {query}", query
    for dashboard in dashboards():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                name = f"{dashboard['title']}: {panel['title']}: {target['legendFormat']}"
                yield name, resolved(target["expr"])


def _data(site: Site, query: str) -> str:
    values = [float(sample["value"][1]) for sample in site.prometheus.query(query)]
    if any(map(math.isfinite, values)):
        return "data"
    return "no number" if values else "NO DATA"


def _enough(name: str, said: str) -> bool:
    """Nothing divided by nothing is no number; that is right where there was no such traffic."""
    idle = any(title in name for title in OFTEN_IDLE) or "cache_hits" in name
    return said == "data" or (said == "no number" and idle)


def trace(site: Site, say: Say) -> bool:
    """One trace, from the request to the webhook."""
    root = "a1" * 16
    with receiver(status(204)) as there:
        answer = httpx.post(
            f"{site.stack.url}/v1/jobs",
            json={
                "model": "echo",
                "prompt": WORDS,
                "params": {"step_ms": 5},
                "webhook": {"url": there.url, "events": ["completed"]},
            },
            headers={
                "Authorization": f"Bearer {TOKEN}",
                "traceparent": f"00-{root}-{'b2' * 8}-01",
            },
            timeout=30,
        )
        answer.raise_for_status()
        deadline = time.monotonic() + PATIENCE
        while (missing := OF_A_TRACE - _names(site, root)) and time.monotonic() < deadline:
            time.sleep(0.1)
    for line in site.spans.tree(root).splitlines():
        say(line)
    say(f"{len(site.spans.trace(root))} spans; missing: {', '.join(sorted(missing)) or 'none'}")
    return not missing


def _names(site: Site, trace_id: str) -> set[str]:
    return {span.name.partition(" ")[0] for span in site.spans.trace(trace_id)}


def revoke(site: Site, say: Say) -> bool:
    """A running job, revoked through Flower's API."""
    with site.client() as client:
        job = client.submit("echo", WORDS * 20, params={"step_ms": 200})
        eventually(lambda: client.get(job.id).status == "running", what="it runs")
        say(f"{job.id} is running")
        refused = httpx.post(f"{site.flower.base_url}/api/task/revoke/{job.id}", timeout=10)
        say(f"POST /api/task/revoke/{job.id} without a password: {refused.status_code}")
        answer = site.flower.post(f"/api/task/revoke/{job.id}", params={"terminate": "true"})
        say(f"POST /api/task/revoke/{job.id}: {answer.status_code} {answer.text}")
        ended = job.wait(30)
        say(f"GET /v1/jobs/{job.id}: {ended.status}")

    def shown() -> str:
        info = site.flower.get(f"/api/task/info/{job.id}")
        return str(info.json()["state"]) if info.is_success else "unknown"

    eventually(lambda: shown() == "REVOKED", what="Flower has heard of the end")
    say(f"GET /api/task/info/{job.id}: {shown()}")
    return refused.status_code == 401 and ended.status == "canceled"


def alerts(site: Site, say: Say) -> bool:
    """The alerts' own tests, and whether a real Prometheus evaluates them."""
    promtool = shutil.which("promtool")
    require(promtool, "promtool (Debian's package `prometheus`)")
    good = True
    for file in sorted(ALERTS.parent.glob("*_test.yml")):
        command = [str(promtool), "test", "rules", file.name]
        done = subprocess.run(command, cwd=ALERTS.parent, capture_output=True, text=True)
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        say(f"promtool test rules {file.name}: {' '.join(lines[-1:])}")
        good &= done.returncode == 0
    eventually(lambda: all(rule["health"] == "ok" for rule in site.prometheus.rules()))
    rules = site.prometheus.rules()
    firing = [rule["name"] for rule in rules if rule.get("state") == "firing"]
    say(f"{len(rules)} rules evaluated without fault; firing: {', '.join(firing) or 'none'}")
    return good


@contextmanager
def at_work(folder: Path) -> Iterator[Site]:
    """A site for as long as the `with` block lasts."""
    with ExitStack() as exits:
        yield Site(folder, exits)


SECTIONS: dict[str, Callable[[Site, Say], bool]] = {
    "Metrics": metrics,
    "Queries": queries,
    "One trace": trace,
    "A revoke in Flower": revoke,
    "Alerts": alerts,
}
