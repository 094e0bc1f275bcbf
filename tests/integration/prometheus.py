"""A real Prometheus that scrapes a stack every second, with the rules of deploy/prometheus."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import eventually, require
from tests.integration.stack import TOKEN
from tests.ports import free_port
from tests.promql import ALERTS

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: truthgpt-api
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: ["127.0.0.1:{target}"]}}]
"""


class Prometheus:
    """Its HTTP API. `query` answers with the samples of an instant query."""

    def __init__(self, folder: Path, target: int) -> None:
        binary = shutil.which("prometheus")
        require(binary, "Prometheus (Debian's package `prometheus`)")
        folder.mkdir()
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(target=target, rules=ALERTS, token=TOKEN), "utf-8")
        port = free_port()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        with (folder / "log").open("ab") as log:
            # fmt: off
            self._process = subprocess.Popen(
                [
                    str(binary), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )
            # fmt: on
        eventually(self._ready, what=f"Prometheus is ready; see {folder}")

    def query(self, promql: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("query", query=promql)["result"]
        return found

    def label_values(self, metric: str, label: str) -> list[str]:
        found: list[str] = self._ask(f"label/{label}/values", **{"match[]": metric})
        return found

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def _ask(self, path: str, **params: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", params=params).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def stop(self) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(10)

    def _ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.HTTPError:
            return False
