"""What the tests of the job store share: jobs of one model, made and claimed."""

from shared.domain.creation import Created, Outcome
from shared.domain.records import Claim, NewJob, new_job_id
from shared.store.events import EventLog
from shared.store.jobs import JobStore

MODEL = "m"


def ask(store: JobStore, tenant: str = "t", **fields: object) -> Outcome:
    limit = int(str(fields.pop("max_queued", 100_000)))
    fields.setdefault("request", b'{"content":"x"}')
    job = NewJob(id=new_job_id(), model=MODEL, tenant=tenant, **fields)  # type: ignore[arg-type]
    return store.create(job, max_queued=limit)


def submit(store: JobStore, tenant: str = "t", **fields: object) -> Created:
    outcome = ask(store, tenant, **fields)
    assert isinstance(outcome, Created), outcome
    return outcome


def claim(store: JobStore, room: int = 1, worker: str = "w") -> list[Claim]:
    return store.claim(MODEL, room, worker).claims


def kinds(store: JobStore, job_id: str) -> list[tuple[str, str]]:
    return [(str(event.id), event.kind) for event in EventLog(store.redis, store.keys).read(job_id)]


def short_leases(store: JobStore) -> JobStore:
    return JobStore(store.redis, store.keys.prefix, retention=60, lease=0.001)
