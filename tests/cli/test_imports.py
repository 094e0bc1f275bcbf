"""What a process of a server does not use it does not load, so that it starts soon."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("module", "unused", "model"),
    [
        # `truthgpt api` becomes another program, which reads the settings itself.
        (
            "cli.serving.processes",
            {"httpx", "celery", "redis", "torch", "pydantic", "yaml"},
            "demo-llama",
        ),
        (
            "api.wsgi",
            {"httpx", "rich", "torch", "transformers", "opentelemetry.exporter"},
            "demo-llama",
        ),
        ("workers.app", {"flower", "httpx", "torch", "transformers"}, "demo-llama"),
        # The worker that rescues.
        ("workers.app", {"workers.runtime", "workers.execution.executor", "tenacity"}, ""),
        ("workers.webhooks.deliveries", {"httpx", "rich", "torch"}, "demo-llama"),
        ("workers.__main__", {"flower", "prompt_toolkit", "httpx", "torch"}, "demo-llama"),
    ],
)
def test_what_is_not_used_is_not_loaded(
    module: str, unused: set[str], model: str, redis_url: str, tmp_path: Path
) -> None:
    env = {"REDIS_URL": redis_url, "TRUTHGPT_MODEL": model, "TRUTHGPT_STATE_DIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys, cli.main, {module}; print(*sys.modules)"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stdout.split())
    assert module in loaded and not loaded & unused
