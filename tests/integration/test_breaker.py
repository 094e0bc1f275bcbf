"""A model that fails all the time, behind real processes: its breaker opens, jobs wait, it heals."""

from collections.abc import Callable
from pathlib import Path

import httpx

from client import Client
from tests.conftest import eventually
from tests.integration.stack import TOKEN, Stack

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
BODY = {"model": "ill", "prompt": "now"}


def catalogue(folder: Path) -> str:
    return f"""
models:
  ill:
    engine: tests.workers.ailing:Ailing
    breaker: {{failure_threshold: 3, timeout_sec: 2, max_timeout_sec: 2}}
    options: {{folder: "{folder}", capacity: 1}}
"""


def breaker(client: Client) -> dict[str, object]:
    [model] = client.models()
    return dict(model.raw["breaker"])


def test_jobs_wait_uncharged_until_the_model_is_well_again(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    (tmp_path / "ill").touch()
    stack = make_stack(catalogue(tmp_path)).serve("ill")
    with stack.client() as client:
        jobs = [client.submit("ill", f"job{number}") for number in range(6)]
        eventually(lambda: breaker(client)["opened"], what="the breaker opens")

        refused = httpx.post(f"{stack.url}/v1/infer", headers=HEADERS, json=BODY, timeout=10)
        assert (refused.status_code, refused.json()["code"]) == (503, "model_unavailable")
        assert 1 <= int(refused.headers["Retry-After"]) <= 2
        late = client.submit("ill", "late", expires_in=0.5).wait(60)
        assert (late.status, late.attempt) == ("expired", 0)
        assert not any(client.get(job.id).done for job in jobs)

        (tmp_path / "ill").unlink()
        ended = [job.wait(60) for job in jobs]
        assert {job.status for job in ended} == {"succeeded"}

        runs = (tmp_path / "runs").read_text().splitlines()
        broke = [run for run in runs if run.endswith("broke")]
        after = breaker(client)
        assert len(runs) == sum(job.attempt for job in ended), "every attempt was a real one"
        assert (after["state"], after["failures"], after["successes"]) == ("closed", len(broke), 6)
        assert len(broke) == 3 + int(str(after["opened"])) - 1, "a probe each time, and no more"
        assert httpx.post(f"{stack.url}/v1/infer", headers=HEADERS, json=BODY).status_code == 200
