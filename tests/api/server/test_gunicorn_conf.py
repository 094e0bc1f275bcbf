"""Both ways to start the API by hand refuse what is not safe, in one line."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.conftest import ROOT


@pytest.mark.parametrize(
    "command",
    [
        ("gunicorn", "-c", "api/server/gunicorn_conf.py"),
        ("cli", "api", "--host", "0.0.0.0"),
        ("cli", "flower", "--host", "0.0.0.0"),
    ],
)
def test_nothing_listens_beyond_loopback_with_a_token_that_nobody_chose(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if name != "TRUTHGPT_API_TOKEN"},
        "HOST": "0.0.0.0",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "TRUTHGPT_STATE_DIR": str(tmp_path / "state"),
    }

    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ran.returncode != 0
    assert "TRUTHGPT_API_TOKEN: not set" in ran.stderr and "Traceback" not in ran.stderr
    assert not (tmp_path / "state").exists(), "no token was made either"


@pytest.mark.parametrize(
    ("environment", "arguments", "said"),
    [
        ({"GUNICORN_CMD_ARGS": "--bind 127.0.0.1:1"}, (), "GUNICORN_CMD_ARGS: "),
        ({}, ("--bind", "0.0.0.0:0"), "TRUTHGPT_API_TOKEN: not set"),
        ({}, ("--http2-cleartext", "both"), "this server speaks HTTP/1 alone"),
    ],
)
def test_gunicorn_is_told_nothing_past_the_checks(
    environment: dict[str, str], arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "TRUTHGPT_API_TOKEN"}
    ran = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "api/server/gunicorn_conf.py", *arguments],
        cwd=ROOT,
        env={**inherited, "TRUTHGPT_STATE_DIR": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode != 0
    assert said in ran.stderr and "Traceback" not in ran.stderr


def test_the_api_needs_a_redis(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    ran = subprocess.run(
        [sys.executable, "-m", "cli", "api", "--port", "0"],
        cwd=ROOT,
        env={**environment, "TRUTHGPT_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 1
    assert "truthgpt: REDIS_URL: not set" in ran.stderr and "Traceback" not in ran.stderr


@pytest.mark.parametrize(("hard", "connections"), [(20_000, 8192), (4096, 2816)])
def test_a_process_takes_as_many_connections_as_it_may_open_files(
    hard: int, connections: int
) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < hard:
        pytest.skip(f"no more than {most} open files are allowed here")
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1024, {hard}));"
        "from api.server import gunicorn_conf as conf;"
        "print(conf.worker_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.split() == [str(connections), str(connections + 1280)], ran.stderr
