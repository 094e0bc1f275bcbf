#!/usr/bin/env bash
# Celery: CELERY_BROKER_URL, CELERY_BROKER_READ_URL, CELERY_BROKER_WRITE_URL and CELERY_RESULT_BACKEND of the
# environment win over the broker that code names, also over one that is assigned to `app.conf` afterwards, and
# without a word: the value reads back as the environment's. A second program in the same pod or shell, a Celery
# application or not, is enough to send all messages elsewhere.
# seen celery 5.7.0 (kombu 5.7.0):
# seen   Celery(broker=...) names redis://ours:6379/0; app.conf.broker_url is redis://theirs:6379/5
# seen   after app.conf.broker_url = 'redis://ours:6379/0': redis://theirs:6379/5
# seen   after app.conf.update(broker_read_url=...): redis://theirs:6379/6
# seen   after app.conf.result_backend = None: db+postgresql://theirs
# seen   a connection goes to redis://:**@theirs:6379/5
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "celery[redis]==5.7.0" "kombu==5.7.0"
CELERY_BROKER_URL=redis://theirs:6379/5 CELERY_BROKER_READ_URL=redis://theirs:6379/6 \
  CELERY_RESULT_BACKEND=db+postgresql://theirs "$folder/venv/bin/python" - <<'PY'
import sys

from celery import Celery

ours = "redis://ours:6379/0"
app = Celery("ours", broker=ours)
seen = [app.conf.broker_url]
print("Celery(broker=...) names", ours + "; app.conf.broker_url is", seen[0])
app.conf.broker_url = ours
seen.append(app.conf.broker_url)
print(f"after app.conf.broker_url = {ours!r}:", seen[1])
app.conf.update(broker_read_url=ours)
seen.append(app.conf.broker_read_url)
print("after app.conf.update(broker_read_url=...):", seen[2])
app.conf.result_backend = None
seen.append(app.conf.result_backend)
print("after app.conf.result_backend = None:", seen[3])
seen.append(app.connection().as_uri())
print("a connection goes to", seen[4])
sys.exit(0 if all("theirs" in where for where in seen) else 1)
PY
