"""A real S3-compatible server: moto's, in an environment of its own."""

import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from bench.environments import EnvironmentFailed, python_of
from tests.conftest import eventually, require
from tests.ports import free_port

BUCKET = "s3://files/under"


class S3Server:
    """`environment` is what a process needs to find it."""

    def __init__(self) -> None:
        try:
            python = python_of("moto", requirements=Path(__file__).parent / "requirements")
        except EnvironmentFailed as failure:
            require(None, f"moto's S3 server ({failure})")
        self._port = free_port()
        self._endpoint = f"http://127.0.0.1:{self._port}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": "for-tests",
            "AWS_SECRET_ACCESS_KEY": "for-tests",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self._endpoint,
            "AWS_ALLOW_HTTP": "true",
        }
        command = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        env = {**os.environ, **self.environment}
        env.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually(self._made_bucket, what="moto answers")

    def _made_bucket(self) -> bool:
        call = urllib.request.Request(f"{self._endpoint}/files", method="PUT")
        try:
            with urllib.request.urlopen(call, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            assert self._process.poll() is None, "moto ended"
            return False

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def use(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let this process find the server. Returns the bucket's URL."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return BUCKET
