"""What a process of a server does not use it does not load, so that it starts soon."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "unused"),
    [
        # `truthgpt api` becomes another program, which reads the settings itself.
        ("cli.serving.processes", {"httpx", "celery", "redis", "torch", "pydantic", "yaml"}),
        ("api.wsgi", {"httpx", "rich", "torch", "transformers", "opentelemetry.exporter"}),
        ("workers.app", {"flower", "httpx", "torch", "transformers"}),
        ("workers.webhooks.deliveries", {"httpx", "rich", "torch"}),
        ("workers.__main__", {"flower", "prompt_toolkit", "httpx", "torch"}),
    ],
)
def test_what_is_not_used_is_not_loaded(module: str, unused: set[str], redis_url: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys, cli.main, {module}; print(*sys.modules)"],
        env={**os.environ, "REDIS_URL": redis_url, "TRUTHGPT_MODEL": "demo-llama"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stdout.split())
    assert module in loaded and not loaded & unused
