"""`python -m workers.operations.flower_app ADDRESS PORT`: Flower as operators of this system need it.

Set up by its classes and not by `celery flower`, which takes every option from `FLOWER_*` variables and runs
a `flowerconfig.py` of the current folder. Nothing but `/healthcheck` answers without the password: user
"truthgpt", the default tenant's token. docs/flower.md says what its pages show.
"""

import asyncio
import logging
import os
import signal
import sys
from collections import Counter
from typing import Any

from shared.surroundings import shed

shed("flower")
# Flower counts events for itself: in a folder of another program's it would stop at the first one.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from celery import Celery  # noqa: E402 - reads the environment when it is loaded
from flower.app import Flower  # noqa: E402
from flower.options import default_options  # noqa: E402
from flower.urls import settings as web_settings  # noqa: E402
from flower.views.broker import BrokerView  # noqa: E402
from flower.views.monitor import Metrics  # noqa: E402
from kombu.exceptions import KombuError  # noqa: E402
from redis.exceptions import RedisError  # noqa: E402
from tornado.httputil import HTTPHeaders  # noqa: E402
from tornado.web import OutputTransform, TemplateModule, authenticated  # noqa: E402

from shared.broker import make_celery, messages_in  # noqa: E402
from shared.domain.errors import ConfigError  # noqa: E402
from shared.settings import (  # noqa: E402
    Settings,
    ensure_token,
    load_settings,
    require_token_beyond_loopback,
)
from shared.telemetry import logs  # noqa: E402

USER = "truthgpt"
ANSWER_SECONDS = 1.0
_log = logging.getLogger(__name__)

STYLE = (
    "#worker-pool-restart, .worker-controls-panel, li:has(> #worker-tab-limits) { display: none; }"
)
"""Takes away what does nothing here. Workers refuse those calls, see `workers.operations.flower`."""

SCRIPT = """
(function () {
    var failed = document.querySelector('.task-state-filter[data-task-state="RETRY"]');
    if (failed) {
        var revoked = failed.cloneNode(true);
        revoked.dataset.taskState = 'REVOKED';
        revoked.textContent = 'Revoked';
        failed.after(revoked);
    }
    var button = document.querySelector('#task-terminate, #task-revoke');
    if (!button) { return; }
    var badge = document.querySelector('#task-page .badge'), before = badge.textContent;
    function look(times) {
        fetch(location.pathname).then(function (answer) { return answer.text(); }).then(function (page) {
            var now = new DOMParser().parseFromString(page, 'text/html').querySelector('#task-page .badge');
            if (now && now.textContent !== before) { location.reload(); }
            else if (times > 1) { setTimeout(look, 250, times - 1); }
        });
    }
    jQuery(document).ajaxSuccess(function (event, request, call) {
        if (call.url.indexOf('/api/task/revoke/') >= 0) {
            badge.textContent = 'CANCELING';
            look(60);
        }
    });
})();
"""
"""A filter for revoked tasks; and a job's end is shown once it has come: Flower looks after five seconds."""


class Page(TemplateModule):
    """What every page of Flower's includes, with what is ours."""

    def embedded_css(self) -> str:
        return super().embedded_css() + STYLE

    def embedded_javascript(self) -> str:
        return super().embedded_javascript() + SCRIPT


PROTECTION = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class Protected(OutputTransform):
    """Lets no other page hold one of Flower's in a frame, where its buttons could be pressed unseen."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        for name, value in PROTECTION.items():
            headers[name] = value
        return super().transform_first_chunk(status_code, headers, chunk, finishing)


class ClosedMetrics(Metrics):  # type: ignore[misc]
    """Flower's own asks nobody for a password, and names workers and tasks."""

    get = authenticated(Metrics.get)


class Queues(BrokerView):  # type: ignore[misc]
    """All queues there are, also those whose workers are gone; Flower shows those of workers that answer."""

    @authenticated
    async def get(self) -> None:
        rows = await asyncio.to_thread(_queues, self.capp)
        self.render("broker.html", broker_url=self.application.broker_uri, queues=rows)


def _queues(app: Celery) -> list[dict[str, Any]]:
    """Every queue with its waiting messages and its consumers, as the page's template wants them.

    Takes as long as workers are given to answer. Empty where the broker does not.
    """
    try:
        queues_of = app.control.inspect(timeout=ANSWER_SECONDS).active_queues() or {}
        consumers = Counter(queue["name"] for queues in queues_of.values() for queue in queues)
        with app.connection_for_read() as connection:
            return [
                {
                    "name": name,
                    "messages_ready": messages_in(connection, name),
                    "consumers": consumers[name],
                }
                for name in sorted({queue.name for queue in app.conf.task_queues} | set(consumers))
            ]
    except (KombuError, OSError, RedisError) as error:
        _log.error("the queues cannot be read: %s", error)
        return []


def make_flower(settings: Settings, address: str, port: int) -> Flower:
    """Flower behind the default tenant's token. Raises `ConfigError` where none may be made up."""
    require_token_beyond_loopback(settings, address)
    token, _ = ensure_token(settings)
    options = default_options
    options.address, options.port = address, port
    options.basic_auth = [f"{USER}:{token}"]
    app = make_celery(settings)
    flower = Flower(capp=app, options=options, ui_modules={"Template": Page}, **web_settings)
    flower.add_handlers(r".*", [(r"/metrics", ClosedMetrics), (r"/broker", Queues)])
    flower.add_transform(Protected)
    return flower


def main(address: str, port: str) -> int:
    """Serve until SIGTERM. Returns the exit status."""
    try:
        settings = load_settings()
        settings.require_redis()
        flower = make_flower(settings, address, int(port))
    except ConfigError as error:
        sys.exit(f"truthgpt: {error}")
    logs.configure(settings, "flower")
    for noisy in ("flower", "tornado"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    flower.start_http_server()
    try:
        flower.start()
    except (KeyboardInterrupt, SystemExit):
        flower.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
