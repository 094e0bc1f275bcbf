"""What Flower shows of the broker."""

from pathlib import Path

from redis import Redis

from shared import broker
from shared.settings import load_settings
from workers.flower_app import _queues


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
