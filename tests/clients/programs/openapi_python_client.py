"""Submit, poll, stream, cancel with the package of openapi-python-client: `URL TOKEN` as arguments."""

import json
import sys

from generated import AuthenticatedClient
from generated.api.infer import infer_now
from generated.api.jobs import cancel_job, create_job, get_job
from generated.api.streams import job_events
from generated.models import JobRequest, Problem

_, url, token = sys.argv
client = AuthenticatedClient(base_url=url, token=token, timeout=60)

body = {
    "model": "echo",
    "prompt": "one two",
    "params": {"repeat": 2},
    "metadata": {"order": "4711"},
}
request = JobRequest.from_dict(body)
made = create_job.sync_detailed(client=client, body=request)
assert made.status_code == 202, made.content

polled = get_job.sync(made.parsed.id, client=client, wait=20)
assert polled.status == "succeeded", polled
assert polled.metadata.to_dict() == {"order": "4711"}

events = job_events.sync_detailed(made.parsed.id, client=client).content.decode()
data = [json.loads(line[5:]) for line in events.splitlines() if line.startswith("data:")]
said = "".join(one["text"] for one in data if "text" in one)
assert polled.output["text"] == said, (polled.output, said)

now = infer_now.sync(client=client, body=JobRequest(model="echo", input_="at once"))
assert now.output["text"] == "at once", now

slow = create_job.sync(client=client, body=JobRequest(model="slow", prompt="never ends"))
cancel_job.sync(slow.id, client=client)
assert get_job.sync(slow.id, client=client, wait=20).status == "canceled"

typo = {"model": "echo", "prompt": "x", "params": {"typo": 1}}
refused = create_job.sync(client=client, body=JobRequest.from_dict(typo))
assert isinstance(refused, Problem), refused
assert refused.code == "invalid_request"
sys.stdout.write("all answers were right\n")
