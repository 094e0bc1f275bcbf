"""The only place where a Redis key is spelled. The Lua scripts get the same spellings, written into them.

| key | type | holds | lives |
|---|---|---|---|
| `job:ID` | hash | the job record | to its deadline + retention; retention after it ended |
| `request:ID` | string | what its worker gets, JSON | as the record, to the end, or on: dead, `keep` |
| `asked:ID` | string | what its client asked in a dialect, JSON, where that is kept | as the record |
| `log:ID` | stream | its events from the second on, ids `<attempt>-<seq>`, if it has a log | as the record |
| `lane:MODEL:CLASS:TENANT` | zset | waiting jobs by order of arrival | horizon |
| `active:MODEL:CLASS` | zset | tenants with waiting jobs by virtual time | horizon |
| `tags:MODEL:CLASS` | zset | virtual time of tenants whose lane ran empty | horizon |
| `queue:MODEL` | hash | depth, arrival counter, virtual clocks, drain rate | horizon |
| `due:MODEL` | zset | jobs that wait for a retry, by due time (ms) | horizon |
| `deadlines:MODEL` | zset | live jobs by deadline (ms) | horizon |
| `leases:MODEL` | zset | running jobs by lease end (ms) | horizon |
| `drains:MODEL` | zset | active drains by expiry (ms) | horizon |
| `idle:MODEL` | zset | workers whose drains wait for jobs, by since when (ms), full ones last | horizon |
| `bell:MODEL` | string | a ring is on its way | seconds |
| `breaker:MODEL` | hash | the model's circuit breaker and retry budget (lua/lib/breaker.lua) | horizon |
| `report:TOKEN` | string | a host's loss was counted, should its answer be lost | a minute |
| `workers:MODEL` | hash | worker name -> what it last said of itself | lease |
| `models` | zset | models that have had jobs, by last use (ms) | horizon |
| `index:TENANT` | zset | the tenant's newest jobs, ids in lexical order | horizon |
| `dead:TENANT` | zset | jobs that failed for no fault of their input, by time (ms) | horizon |
| `idem:TENANT:DIGEST` | string | job id and body digest of an Idempotency-Key | a day |
| `readers:ID` | hash | who reads, or has read, a job that lives only while somebody does | as the record |
| `used:DAY:TENANT` | hash | figure, model -> sum over the tenant's jobs that ended that day (UTC) | 93 days |
| `usedby:DAY` | set | tenants whose jobs ended that day | 93 days |
| `usage:DAY` | hash | figure, model, tenant -> sum, as the version before counted | 93 days |
| `api-key:ID` | hash | an API key: its HMAC, tenant, scopes, limits | see shared/store/api_keys.py |
| `api-key-used:ID` | string | when the key was last used (s) | 400 days |
| `api-keys` | zset | ids of API keys, by creation (s) | five years |
| `console-session:DIGEST` | string | a browser that has signed in at the console | two hours unused |
| `console-sessions:KEY` | hash | the sessions of a key: where and when each began, JSON | a day |
| `console-ticket:NONCE` | string | a link that signs in once was used | twenty minutes |
| `webhook-secrets:TENANT` | hash | ids of a tenant's signing secrets | 400 days after use |
| `endpoints:TENANT` | hash | its webhook endpoints by id, JSON | 400 days after use |
| `delivery:ID` | hash | a webhook delivery and what it delivers | horizon; retention once delivered |
| `outbox:TO` | zset | a receiver's waiting deliveries by due time (ms) | horizon |
| `sending:TO` | zset | a receiver's deliveries under way by lease end (ms) | horizon |
| `receiver:TO` | hash | failures in a row, and until when its circuit is open | a day |
| `receivers:TENANT` | zset | a tenant's receivers by when to look at them next (ms) | horizon |
| `tellers` | zset | tenants with deliveries by when to look at their receivers next (ms) | horizon |
| `pending` | zset | all waiting deliveries by age (ms) | horizon |
| `backlog:TENANT` | zset | a tenant's part of `pending` | horizon |
| `undelivered:TENANT` | zset | deliveries that were given up, by time (ms) | horizon |
| `deliverybell` | string | a ring for deliveries is on its way | seconds |
| `cached:TENANT:DIGEST` | string | the job whose record holds a request's result | `cache.ttl` |
| `output:ID` | hash | an output that several jobs and webhooks refer to | as the last of them |
| `bytes:TENANT` | hash | bytes that a tenant makes Redis hold, by when they go | horizon |
| `results:TENANT` | zset | digests of these by last use (ms) | horizon |
| `flights:TENANT` | hash | by digest of a request, the leader of its flight: who works on it now | horizon |
| `followers:FLIGHT` | zset | jobs that wait for its result, the most urgent first | horizon |
| `claim:TOKEN` | string | what a claim handed out, should its answer be lost | a minute |
| `file:ID` | hash | a tenant's file: name, size, purpose, how many batches read it | its expiry + two days |
| `files:TENANT` | zset | a tenant's files, ids in lexical order | as the last of them |
| `expiringfiles` | zset | id, tenant and size of each file, by expiry (ms) | as the last of them |
| `filesizes` | hash | how many bytes and files each tenant has, and all together | as the last of them |
| `batch:ID` | hash | a batch of requests: state, counts, how far its input was read | window + retention |
| `batchlive:ID` | hash | lines whose jobs were made and not gathered | as the record, to the end |
| `batchparts:ID` | list | names of the parts of its output, in the storage | as the record, to the end |
| `batches:TENANT` | zset | a tenant's batches, ids in lexical order | as the last of them |
| `tenantopen:TENANT` | zset | those that have not ended | as the last of them |
| `openbatches` | zset | all that have not ended, by when to look at them next (ms) | as the last of them |
| `batchlook` | string | somebody has looked for batches | a minute |
| `batchasked:TENANT:DIGEST` | string | the batch that the last such request made | an hour |
| `audit:KIND` | zset | ids of changes by administrators, and of sign-ins, in lexical order | 90 days |
| `auditof:KIND:TENANT` | zset | those of one tenant | 90 days |
| `auditentry:ID` | string | a change, JSON | 90 days |
| `window:POLICY:CLIENT` | string | what a client took of a rate limit (lua/lib/rates.lua) | two windows |
| `clients` | zset | clients by their last rate-limited request (ms) | two hours |
| `stats:MODEL:MINUTE` | hash | ends, latencies and tokens of that minute, counted in buckets | 65 minutes |

Channels: `events:ID` (every event of a job), `rouse:WORKER` (jobs wait, and it is this one's turn),
`wake:MODEL` (the model's breaker lets jobs run again: everybody look),
`control:MODEL` (cancel a running job, reset the workers' breakers),
`ended:HOME` (jobs that a process made and waits for, whole, as they end; those of one call in one message).
`TO` is a tenant and a receiver's host:port. *Horizon* is the longest deadline + retention.
"""

import hashlib
import re
from dataclasses import dataclass

TEMPLATES = {
    "job": ("job", "id"),
    "request": ("request", "id"),
    "asked": ("asked", "id"),
    "log": ("log", "id"),
    "lane": ("lane", "model", "class", "tenant"),
    "active": ("active", "model", "class"),
    "tags": ("tags", "model", "class"),
    "queue": ("queue", "model"),
    "due": ("due", "model"),
    "deadlines": ("deadlines", "model"),
    "leases": ("leases", "model"),
    "drains": ("drains", "model"),
    "idle": ("idle", "model"),
    "bell": ("bell", "model"),
    "breaker": ("breaker", "model"),
    "report": ("report", "token"),
    "workers": ("workers", "model"),
    "models": ("models",),
    "index": ("index", "tenant"),
    "dead": ("dead", "tenant"),
    "idem": ("idem", "tenant", "digest"),
    "readers": ("readers", "id"),
    "used": ("used", "day", "tenant"),
    "usedby": ("usedby", "day"),
    "usage": ("usage", "day"),
    "api-key": ("api-key", "id"),
    "api-key-used": ("api-key-used", "id"),
    "api-keys": ("api-keys",),
    "console-session": ("console-session", "digest"),
    "console-sessions": ("console-sessions", "key"),
    "console-ticket": ("console-ticket", "nonce"),
    "webhook-secrets": ("webhook-secrets", "tenant"),
    "endpoints": ("endpoints", "tenant"),
    "delivery": ("delivery", "id"),
    "outbox": ("outbox", "to"),
    "sending": ("sending", "to"),
    "receiver": ("receiver", "to"),
    "receivers": ("receivers", "tenant"),
    "tellers": ("tellers",),
    "pending": ("pending",),
    "backlog": ("backlog", "tenant"),
    "undelivered": ("undelivered", "tenant"),
    "deliverybell": ("deliverybell",),
    "cached": ("cached", "tenant", "digest"),
    "output": ("output", "id"),
    "bytes": ("bytes", "tenant"),
    "results": ("results", "tenant"),
    "flights": ("flights", "tenant"),
    "followers": ("followers", "flight"),
    "claim": ("claim", "token"),
    "file": ("file", "id"),
    "files": ("files", "tenant"),
    "expiringfiles": ("expiringfiles",),
    "filesizes": ("filesizes",),
    "batch": ("batch", "id"),
    "batchlive": ("batchlive", "id"),
    "batchparts": ("batchparts", "id"),
    "batches": ("batches", "tenant"),
    "tenantopen": ("tenantopen", "tenant"),
    "openbatches": ("openbatches",),
    "batchlook": ("batchlook",),
    "batchasked": ("batchasked", "tenant", "digest"),
    "audit": ("audit", "kind"),
    "auditof": ("auditof", "kind", "tenant"),
    "auditentry": ("auditentry", "id"),
    "window": ("window", "policy", "client"),
    "clients": ("clients",),
    "stats": ("stats", "model", "minute"),
    "rescuer": ("rescuer",),
    "events": ("events", "id"),
    "ended": ("ended", "home"),
    "rouse": ("rouse", "worker"),
    "wake": ("wake", "model"),
    "control": ("control", "model"),
}

_CALL = re.compile(r"\bkey\.(?P<kind>\w+)\(")
_PLAIN = re.compile(r"\w+([.\[]\w+\]?)*")


@dataclass(frozen=True, slots=True)
class Keys:
    """Spells keys under one prefix: `Keys("truthgpt")("job", id)`."""

    prefix: str

    def __call__(self, kind: str, *parts: str) -> str:
        return ":".join((self.prefix, TEMPLATES[kind][0], *parts))


def spelled_out(lua: str, prefix: str) -> str:
    """A script with each `key.kind(a, b)` as the expression that it stands for; `prefix` needs no escape.

    Raises `KeyError` for a kind that there is not, `ValueError` where the number of its parts is another.
    """
    done, at = [], 0
    while (call := _CALL.search(lua, at)) is not None:
        parts, end = _arguments(lua, call.end())
        word, *names = TEMPLATES[call["kind"]]
        if len(parts) != len(names):
            raise ValueError(
                f"key.{call['kind']} takes {len(names)} parts: {lua[call.start() : end]}"
            )
        spelled = " .. ':' .. ".join((f"'{prefix}:{word}'", *parts)).replace("' .. ':'", ":'")
        done += [lua[at : call.start()], f"({spelled})"]
        at = end
    return "".join((*done, lua[at:]))


def _arguments(lua: str, start: int) -> tuple[list[str], int]:
    """The arguments of a call that begin at `start`, and where the call ends."""
    parts, begun, depth, at = [], start, 0, start
    while depth >= 0:
        match lua[at]:
            case "'":
                at = lua.index("'", at + 1)
            case "(" | "{" | "[":
                depth += 1
            case ")" | "}" | "]":
                depth -= 1
        if depth < 0 or (depth == 0 and lua[at] == ","):
            parts.append(lua[begun:at].strip())
            begun = at + 1
        at += 1
    return [part if _PLAIN.fullmatch(part) else f"({part})" for part in parts if part], at


def key_digest(idempotency_key: str) -> str:
    """What stands for an idempotency key in Redis."""
    return hashlib.sha256(idempotency_key.encode()).hexdigest()
