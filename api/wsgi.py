"""The app that gunicorn serves: `gunicorn -c api/server/gunicorn_conf.py api.wsgi:app`."""

import os
import sys

from api.app import create_app
from api.http.tracing import trace_requests
from api.routes.metrics import keep_metrics
from shared.domain.errors import ConfigError
from shared.faults import faults
from shared.redis.guard import require_fit
from shared.settings import load_settings
from shared.telemetry.redaction import redact_logs

try:
    redact_logs()
    faults.arm(os.environ)
    settings = load_settings()
    require_fit(settings.require_redis(), settings.redis_timeout, settings.key_prefix)
    app = create_app(settings)
    if settings.enable_metrics:
        keep_metrics(app, settings)
    trace_requests(app, settings)
except ConfigError as error:
    # 4 is what gunicorn takes as "the app cannot be loaded": it ends instead of trying for ever.
    sys.stderr.write(f"truthgpt: {error}\n")
    sys.exit(4)
