"""What Flower shows of the broker."""

import os
import subprocess
import sys
from pathlib import Path

from redis import Redis

from shared import broker
from shared.settings import load_settings
from workers.operations.flower_app import _queues


def test_every_queue_is_listed_with_what_waits_in_it(
    tmp_path: Path, redis_url: str, prefix: str
) -> None:
    config = tmp_path / "catalog.yaml"
    config.write_text("models: {busy: {engine: echo}, idle: {engine: echo}}")
    app = broker.make_celery(load_settings(config=config, redis_url=redis_url, key_prefix=prefix))
    try:
        for _ in range(3):
            assert broker.ring(app, "busy")
        assert broker.ring_unless_rung(app, "busy") and broker.ring_unless_rung(app, "idle")
        rows = {row["name"]: (row["messages_ready"], row["consumers"]) for row in _queues(app)}
    finally:
        with Redis.from_url(redis_url) as redis:
            redis.delete(*redis.scan_iter(f"{prefix}:*"))

    assert rows == {
        "infer.busy": (3, 0),
        "infer.idle": (1, 0),
        broker.RESCUE_QUEUE: (0, 0),
        broker.DELIVERY_QUEUE: (0, 0),
    }


def test_a_folder_for_another_programs_metrics_does_not_stop_flower(tmp_path: Path) -> None:
    counts = (
        "import workers.operations.flower_app, flower.events;"
        "flower.events.get_prometheus_metrics().events.labels('worker', 'type', 'task').inc()"
    )
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "not there")}
    ran = subprocess.run(
        [sys.executable, "-c", counts], env=environment, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stderr
