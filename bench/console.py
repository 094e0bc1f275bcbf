"""`python -m bench.console [--jobs N]`: what pages of the console cost the API beside N stored jobs.

The app and its Redis run here, so that processor time is the app's own: of this thread, without Redis. A page
of jobs is asked for as it is, and with a filter that no job fits, which looks at as many as one page may.
"""

import argparse
import os
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flask.testing import FlaskClient

from api.app import create_app
from api.console.assets import assets
from api.services import of
from bench.reporting.figures import percentile
from bench.subjects.ours import CATALOGUE, NO_LIMIT
from shared.domain.records import NewJob, new_job_id
from shared.embedded_redis import EmbeddedRedis
from shared.redis.connection import connect
from shared.settings import load_settings
from shared.store.jobs import JobStore

TOKEN = "bench-token-0123456789"
REQUESTS, FILLERS = 200, 8
LOOKS, CHARTS = 5.0, 60.0
"""Seconds between two looks of an open overview at its figures, and at its charts."""
PAGES = {
    "overview, its figures anew": ("/console", "overview"),
    "overview, its charts anew": ("/console/history", "charts"),
    "overview, the page": ("/console", ""),
    "jobs, the page": ("/console/jobs", ""),
    "jobs, a filter that none fits": ("/console/jobs?status=expired", ""),
}


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser("python -m bench.console", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="stored jobs (100000)")
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory() as folder:
        redis = EmbeddedRedis(Path(folder))
        redis.start()
        try:
            costs = _measure(redis.url, jobs, Path(folder))
        finally:
            redis.stop()
    print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores, {jobs:,} jobs\n")
    print("| page | CPU ms | p50 ms | p99 ms |\n|---|---|---|---|")
    for name, (cpu, p50, p99) in costs.items():
        print(f"| {name} | {cpu:.2f} | {p50:.1f} | {p99:.1f} |")
    figures, charts, *_ = costs.values()
    share = figures[0] / (10 * LOOKS) + charts[0] / (10 * CHARTS)
    print(f"\nAn open overview: {share:.3f} % of a core (goal: 0.5 %).")
    print(
        f"All assets, compressed: {sum(len(one.compressed) for one in assets().values()):,} bytes."
    )


def _measure(url: str, jobs: int, folder: Path) -> dict[str, tuple[float, float, float]]:
    config = folder / "catalog.yaml"
    config.write_text(CATALOGUE, "utf-8")
    settings = load_settings(
        REDIS_URL=url,
        TRUTHGPT_API_TOKEN=TOKEN,
        TRUTHGPT_CONFIG=config,
        RATE_LIMIT_RPM=NO_LIMIT,
    )
    _fill(JobStore(connect(url, 30.0), settings.key_prefix, retention=3600, lease=15.0), jobs)
    app = create_app(settings, ring=lambda _: None)
    client = app.test_client()
    client.post("/console/sign-in", data={"token": TOKEN})
    try:
        return {name: _cost(_ask(client, *page)) for name, page in PAGES.items()}
    finally:
        of(app).close()


def _fill(store: JobStore, jobs: int) -> None:
    def one(_: int) -> None:
        made = NewJob(new_job_id(), "echo", "default", b'{"content":"x","params":{},"seed":1}')
        store.create(made, max_queued=jobs + 1)

    with ThreadPoolExecutor(FILLERS) as pool:
        for _ in pool.map(one, range(jobs), chunksize=1000):
            pass


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
