"""`python -m bench.console [--jobs N]`: what the console costs the API beside N stored jobs.

In one run, under five minutes: processor time and latency of its pages, of an app in this process, without
Redis; the first paint in a browser, and the p99 of `POST /v1/infer` beside a hundred open pages, of a server.
"""

import argparse
import http.client
import os
import re
import shutil
import statistics
import time
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

from flask.testing import FlaskClient

from api.app import create_app
from api.console.assets import assets
from api.services import of
from bench.clients.order import Order, Report
from bench.command import SCRATCH
from bench.console.open_pages import CHARTS, LOOKS, Pages
from bench.console.painting import first_paints
from bench.console.stored import fill
from bench.reporting.figures import percentile
from bench.subjects import Serving
from bench.subjects.ours import NO_LIMIT, Ours
from bench.turn import put_load
from shared.redis.connection import connect
from shared.settings import load_settings
from shared.store.keys import Keys

FOLDER = SCRATCH / "console"
REQUESTS = 200
OPEN_PAGES = 100
TURNS, SECONDS, RATE, CLIENTS = 4, 10.0, 60.0, 64
"""Of the load of `/v1/infer`: turns of each kind, how long each is measured, requests a second."""
PAGES = {
    "overview, its figures anew": ("/console", "overview"),
    "overview, its charts anew": ("/console/history", "charts"),
    "overview, the page": ("/console", ""),
    "jobs, the page": ("/console/jobs", ""),
    "jobs, by status": ("/console/jobs?status=failed", ""),
    "jobs, those that run": ("/console/jobs?status=running", ""),
    "jobs, by metadata of one in fifty": ("/console/jobs?metadata=team%3Dteam-7", ""),
    "jobs, one look for metadata that none has": ("/console/jobs?metadata=absent", ""),
    "jobs, one look for a part of an id that none has": ("/console/jobs?id=xyz", ""),
}
PAINTED = {"overview": "/console", "jobs": "/console/jobs", "playground": "/console/playground"}


def main() -> None:
    """Measure and print tables in Markdown."""
    parser = argparse.ArgumentParser("python -m bench.console", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="stored jobs (100000)")
    jobs = parser.parse_args().jobs
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    subject = Ours()
    token = subject.headers["Authorization"].removeprefix("Bearer ")
    print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores, {jobs:,} jobs", flush=True)
    with subject.serve(FOLDER) as serving:
        assert serving.redis_url is not None
        began = time.monotonic()
        redis = connect(serving.redis_url, 30.0)
        fill(redis, Keys("truthgpt"), jobs)
        held = redis.info("memory")["used_memory"]
        print(f"filled in {time.monotonic() - began:.0f} s, Redis holds {held / 2**20:,.0f} MiB")
        _print_pages(serving.redis_url, token)
        _print_paints(serving.url, token)
        _print_disturbance(subject, serving, token)
    total = sum(len(one.compressed) for one in assets().values())
    print(f"\nAll assets, compressed: {total:,} bytes (goal: 150,000).")


def _print_pages(url: str, token: str) -> None:
    settings = load_settings(
        REDIS_URL=url,
        TRUTHGPT_API_TOKEN=token,
        TRUTHGPT_CONFIG=FOLDER / "catalog.yaml",
        RATE_LIMIT_RPM=NO_LIMIT,
    )
    app = create_app(settings, ring=lambda _: None)
    client = app.test_client()
    client.post("/console/sign-in", data={"token": token})
    try:
        costs = {name: _cost(_ask(client, *page)) for name, page in PAGES.items()}
    finally:
        of(app).close()
    print("\n| page | CPU ms | p50 ms | p99 ms |\n|---|---|---|---|")
    for name, (cpu, p50, p99) in costs.items():
        print(f"| {name} | {cpu:.2f} | {p50:.1f} | {p99:.1f} |")
    figures, charts, *_ = costs.values()
    share = figures[0] / (10 * LOOKS) + charts[0] / (10 * CHARTS)
    print(f"\nAn open overview: {share:.3f} % of a core (goal: 0.5 %).", flush=True)


def _print_paints(url: str, token: str) -> None:
    found = first_paints(url, token, PAINTED)
    if found is None:
        print("\nFirst paint: not measured, there is no chromium.")
        return
    told = ", ".join(f"{name} {ms:.0f} ms" for name, ms in found.items())
    print(f"\nFirst paint: {told} (goal: 300 ms).", flush=True)


def _print_disturbance(subject: Ours, serving: Serving, token: str) -> None:
    """In alternating turns: `/v1/infer` alone, and beside open pages."""
    cookie = _session(serving.url, token)
    alone, beside, looks, failed = list[float](), list[float](), 0, 0
    for _ in range(TURNS):
        alone.append(_p99(subject, serving))
        with Pages(serving.url, cookie, OPEN_PAGES).stay_open() as pages:
            beside.append(_p99(subject, serving))
        looks, failed = looks + pages.looks, failed + pages.failed
    change = 100 * (statistics.median(beside) / statistics.median(alone) - 1)
    print(
        f"\np99 of /v1/infer at {RATE:g} a second: {_told(alone)} ms alone, {_told(beside)} ms beside "
        f"{OPEN_PAGES} open overviews ({looks} looks, {failed} failed): {change:+.1f} % (goal: +5 %)."
    )


def _told(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _p99(subject: Ours, serving: Serving) -> float:
    order = Order(serving.url, subject.dialect, CLIENTS, 2.0, SECONDS, 60.0, RATE, 1.0, "client")
    (report,) = (one for one in put_load(order, FOLDER) if isinstance(one, Report))
    return report.latency.p99


def _session(url: str, token: str) -> str:
    """The cookie of a session at a server."""
    body = urlencode({"token": token})
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=10)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/console/sign-in", body, form)
    cookie = connection.getresponse().getheader("Set-Cookie", "").partition(";")[0]
    connection.close()
    return cookie


def _ask(client: FlaskClient, path: str, part: str) -> Callable[[], None]:
    headers = {"Accept": "text/html"}
    if part:
        headers |= {"HX-Request": "true", "HX-Target": part}

    def ask() -> None:
        answer = client.get(path, headers=headers)
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {re.sub('<[^>]*>', ' ', answer.text)[:400]}")

    return ask


def _cost(ask: Callable[[], None]) -> tuple[float, float, float]:
    """Milliseconds of processor time a request, and of the clock at p50 and p99."""
    ask()
    took, began = [], time.thread_time()
    for _ in range(REQUESTS):
        start = time.perf_counter()
        ask()
        took.append(1000 * (time.perf_counter() - start))
    cpu = 1000 * (time.thread_time() - began) / REQUESTS
    took.sort()
    return cpu, percentile(took, 0.5), percentile(took, 0.99)


if __name__ == "__main__":
    main()
