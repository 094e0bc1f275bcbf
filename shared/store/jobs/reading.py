"""Reading jobs, their listings and their queues. Nothing here changes a job."""

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from shared.domain.errors import InvalidRequest, JobNotFound
from shared.domain.events import Prefix, Streamed
from shared.domain.records import JOB_ID, ModelStatus, Record
from shared.domain.states import JobState
from shared.redis.connection import reachable
from shared.store.breaker import Breaker
from shared.store.jobs.calls import ANY_TENANT, ScriptCalls

LIST_SCAN = 2_000
"""Jobs that a listing looks at for one page."""


class Reading(ScriptCalls):
    """Every method raises `StoreUnavailable` when Redis does not answer."""

    def get(self, job_id: str, tenant: str = ANY_TENANT) -> Record:
        """A job of this tenant. Raises `JobNotFound`, also for a job of somebody else."""
        if not JOB_ID.fullmatch(job_id):
            raise JobNotFound(job_id)
        reply = self._call("get", job_id, tenant)
        if not reply:
            raise JobNotFound(job_id)
        position, start = int(reply[0]), int(reply[1])
        return Record(
            _fields(job_id, reply[2:]),
            position if position >= 0 else None,
            start if start >= 0 else None,
        )

    def asked(self, job_id: str, tenant: str) -> tuple[Record, bytes]:
        """A job of this tenant, and what its client asked in the words of a dialect.

        Raises `JobNotFound`, also for a job of which that is not kept.
        """
        record = self.get(job_id, tenant)
        with reachable():
            asked = cast(bytes | None, self.redis.get(self.keys("asked", job_id)))
        if asked is None:
            raise JobNotFound(job_id)
        return record, asked

    def request(self, job_id: str) -> bytes | None:
        """What the worker of a job gets, as JSON: content, params, seed. None once it is no longer kept.

        It goes when the job ends, unless that leaves a dead letter. For who may see the job (`get`).
        """
        with reachable():
            return cast(bytes | None, self.redis.get(self.keys("request", job_id)))

    def listing(
        self,
        tenant: str,
        *,
        state: JobState | None = None,
        model: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> tuple[list[Record], str | None]:
        """A tenant's jobs, newest first, and the cursor of the next page if there may be one.

        Raises `InvalidRequest` for a cursor that no listing gave.
        """
        if cursor is not None and not JOB_ID.fullmatch(cursor):
            raise InvalidRequest(
                "The cursor is not one that a listing gave.", code="invalid_cursor"
            )
        found: list[Record] = []
        index, scanned = self.keys("index", tenant), 0
        while scanned < LIST_SCAN:
            top = f"({cursor}" if cursor else "+"
            with reachable():
                page = cast(
                    list[bytes],
                    self.redis.zrevrangebylex(index, top, "-", start=0, num=100),
                )
                pipe = self.redis.pipeline(transaction=False)
                for job_id in page:
                    pipe.hgetall(self.keys("job", job_id.decode()))
                hashes = pipe.execute()
            for job_id, raw in zip(page, hashes, strict=True):
                cursor = job_id.decode()
                if not raw:
                    continue
                record = Record({"id": cursor, **{k.decode(): v.decode() for k, v in raw.items()}})
                if state not in (None, record.state) or model not in (None, record.fields["model"]):
                    continue
                found.append(record)
                if len(found) == limit:
                    return self._with_outputs(found), cursor
            if len(page) < 100:
                return self._with_outputs(found), None
            scanned += len(page)
        return self._with_outputs(found), cursor

    def _with_outputs(self, records: Sequence[Record]) -> list[Record]:
        """The records, each with the output that it refers to as its own."""
        references = {
            r.id: r.fields["output_of"].split(" ")[0] for r in records if "output_of" in r.fields
        }
        if not references:
            return list(records)
        with reachable():
            pipe = self.redis.pipeline(transaction=False)
            ids = sorted(set(references.values()))
            for output_id in ids:
                pipe.hmget(self.keys("output", output_id), ("output", "usage"))
            rows = dict(zip(ids, pipe.execute(), strict=True))
        return [
            _with_output(record, *rows[references[record.id]])
            if record.id in references
            else record
            for record in records
        ]

    def dead(self, tenant: str, limit: int = 100) -> list[Record]:
        """The newest jobs of a tenant that failed for no fault of their input: the dead letters."""
        key = self.keys("dead", tenant)
        with reachable():
            newest = cast(list[bytes], self.redis.zrevrange(key, 0, limit - 1))
        found, gone = [], []
        for job_id in newest:
            try:
                found.append(self.get(job_id.decode(), tenant))
            except JobNotFound:
                gone.append(job_id)
        if gone:
            with reachable():
                self.redis.zrem(key, *gone)
        return found

    def streamed(self, job_id: str) -> Streamed:
        """What earlier attempts of a job have streamed since the last reset."""
        said: dict[int, tuple[list[str], list[int]]] = {}
        ended: dict[int, str] = {}
        other = False
        with reachable():
            entries = cast(list[Any], self.redis.xrange(self.keys("log", job_id)))
        for _, entry in entries:
            kind = entry[b"e"]
            if kind == b"reset":
                said, ended, other = {}, {}, False
            elif kind == b"token":
                data = msgspec.json.decode(entry[b"d"])
                choice = data.get("choice", 0)
                text, tokens = said.setdefault(choice, ([], []))
                text.append(data["text"])
                ended[choice] = data.get("finish_reason", "")
                tokens += map(int, entry[b"t"].split(b",")) if entry.get(b"t") else ()
            elif kind == b"output":
                other = True
        texts = [said.get(choice, ([], [])) for choice in range(1 + max(said, default=0))]
        first, *further = (
            Prefix("".join(text), tuple(tokens), ended.get(choice, ""))
            for choice, (text, tokens) in enumerate(texts)
        )
        return Streamed(first.text, first.token_ids, other, tuple(further), first.finish_reason)

    def models(self) -> list[str]:
        """The models that have had jobs within the horizon."""
        with reachable():
            return [
                name.decode()
                for name in cast(list[bytes], self.redis.zrange(self.keys("models"), 0, -1))
            ]

    def status(self, model: str) -> ModelStatus:
        """A model's queue depth, running jobs, live workers and breaker."""
        with reachable():
            pipe = self.redis.pipeline(transaction=False)
            pipe.hget(self.keys("queue", model), "depth")
            pipe.zcard(self.keys("leases", model))
            pipe.hgetall(self.keys("workers", model))
            pipe.hgetall(self.keys("breaker", model))
            pipe.time()
            depth, running, reports, breaker, moment = pipe.execute()
        now = moment[0] * 1000 + moment[1] // 1000
        workers = {}
        for name, report in reports.items():
            expiry, _, document = report.partition(b" ")
            if int(expiry) >= now:
                workers[name.decode()] = msgspec.json.decode(document)
        return ModelStatus(int(depth or 0), running, workers, Breaker.parse(breaker).status(now))

    def held_bytes(self, tenant: str) -> int:
        """How many bytes a tenant makes Redis hold."""
        with reachable():
            found = cast(Any, self.redis.hgetall(self.keys("bytes", tenant)))
            now = cast(Any, self.redis.time())[0]
        parts = ((name, int(value)) for name, value in found.items() if name.isdigit())
        return max(0, sum(value for name, value in parts if int(name) > now))


def _with_output(record: Record, output: bytes | None, usage: bytes | None) -> Record:
    fields = {"usage": (usage or b"").decode(), **record.fields}
    return Record({**fields, "output": (output or b"").decode()}, record.position, record.start)


def _fields(job_id: str, flat: list[bytes]) -> dict[str, str]:
    pairs = ((flat[i].decode(), flat[i + 1].decode()) for i in range(0, len(flat), 2))
    return {"id": job_id, **dict(pairs)}
