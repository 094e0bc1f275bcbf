"""Building answers: JSON without a detour, jobs as clients see them."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from werkzeug.sansio.utils import get_host

from api.client_address import Network, trusted_hops
from api.http.reply import Reply
from api.http.request_context import RequestContext
from api.tickets import Tickets
from shared.domain.records import Record

_ENCODER = msgspec.json.Encoder()


def answer(body: bytes, status: int = 200, **headers: str) -> Reply:
    """A JSON answer. Header names are spelled with underscores."""
    reply = Reply(body, status, "application/json")
    for name, value in headers.items():
        reply.headers[name.replace("_", "-")] = value
    return reply


def document(value: Any, status: int = 200, **headers: str) -> Reply:
    """Anything that msgspec encodes, as a JSON answer."""
    return answer(_ENCODER.encode(value), status, **headers)


class Links(msgspec.Struct, frozen=True):
    """The URLs of jobs as this caller reaches them. `base` has no slash at the end."""

    base: str
    tickets: Tickets

    def job(self, job_id: str) -> str:
        return f"{self.base}/v1/jobs/{job_id}"

    def all(self, job_id: str) -> dict[str, str]:
        """The `urls` member of a job; the events' one carries a ticket."""
        url = self.job(job_id)
        events = f"{url}/events?ticket={self.tickets.issue(job_id)}"
        return {"get": url, "events": events, "cancel": f"{url}/cancel"}


def links(here: RequestContext) -> Links:
    """Links as the caller of a request reaches this server.

    By `TRUTHGPT_PUBLIC_URL`; else by what a trusted proxy says of scheme and host; else by `Host`.
    """
    settings, said = here.services.settings, here.environ
    scheme, host = said["wsgi.url_scheme"], said.get("HTTP_HOST")
    if settings.public_url is not None:
        return Links(settings.public_url, here.services.tickets)
    if settings.trusted_proxies:
        scheme, host = _through_proxies(said, settings.trusted_proxies, scheme, host)
    return Links(
        _base(scheme, host, said["SERVER_NAME"], said["SERVER_PORT"]), here.services.tickets
    )


def _through_proxies(
    said: Mapping[str, Any], trusted: Sequence[Network], scheme: str, host: str | None
) -> tuple[str, str | None]:
    """Scheme and host as the outermost trusted proxy was reached by; what others claim is not believed."""
    hops = trusted_hops(said.get("REMOTE_ADDR"), [said.get("HTTP_X_FORWARDED_FOR", "")], trusted)
    if hops:
        proto = _said_before("HTTP_X_FORWARDED_PROTO", said, hops).lower()
        scheme = proto if proto in ("http", "https") else scheme
        host = _said_before("HTTP_X_FORWARDED_HOST", said, hops) or host
    return scheme, host


def _said_before(name: str, said: Mapping[str, Any], hops: int) -> str:
    """What the last but `hops` - 1 of a header's values is: each proxy appends one, or puts one for all."""
    values = [value.strip() for value in said.get(name, "").split(",")]
    return str(values[-min(hops, len(values))])


@lru_cache(maxsize=1024)
def _base(scheme: str, host: str | None, name: str, port: str) -> str:
    """`host` is the caller's; what is no host at all is not repeated."""
    server = (name, int(port) if port.isdigit() else None)
    return f"{scheme}://{get_host(scheme, host, server) or f'{name}:{port}'}"


def job_json(record: Record, urls: Links) -> bytes:
    """A job as `shared.domain.schemas.Job` in JSON, on one line."""
    return record.to_json(urls.all(record.id))


def job_members(record: Record, urls: Links) -> dict[str, Any]:
    """A job's document as a member of another one."""
    return record.members(urls.all(record.id))
