"""Reading requests: bodies within bounds, headers and parameters checked, each fault a 4xx that helps."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from wsgiref.types import WSGIEnvironment

from flask import Request
from werkzeug.http import parse_list_header

from api.http.body_bounds import decoded
from api.http.request_context import RequestContext
from api.http.sse.connection import deadline
from shared.domain.errors import InvalidRequest, JobsError
from shared.domain.schemas import epoch_ms

MAX_WAIT = 60

_IDEMPOTENCY_KEY = re.compile(r"[ -~]{1,255}")
_SECONDS = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")
_WAIT = re.compile(r'wait[ \t]*(=[ \t]*("?)([0-9]*)\2)?', re.IGNORECASE)


class Sent(NamedTuple):
    """A submission as it was sent: `Idempotency-Key`, whether it asks for a result of its own, its body, and
    how many seconds it would wait for the job's end.
    """

    key: str | None
    no_store: bool
    body: dict[str, Any]
    wait: int | None = None


def sent(here: RequestContext) -> Sent:
    """What a request for a job says. Raises `JobsError`."""
    environ = here.environ
    wait = preferred_wait(environ)
    return Sent(idempotency_key(environ), no_store(environ), json_object(here), wait)


def idempotency_key(environ: WSGIEnvironment) -> str | None:
    """The `Idempotency-Key`. Raises `InvalidRequest` for one that is not 1-255 printable ASCII."""
    given: str | None = environ.get("HTTP_IDEMPOTENCY_KEY")
    if given is not None and not _IDEMPOTENCY_KEY.fullmatch(given):
        raise bad_parameter("Idempotency-Key must be 1 to 255 printable ASCII characters.")
    return given


def no_store(environ: WSGIEnvironment) -> bool:
    """Whether the caller asks for a result of its own: `no-store` among the `Cache-Control` directives."""
    given = environ.get("HTTP_CACHE_CONTROL")
    return given is not None and any(
        _name(directive) == "no-store" for directive in parse_list_header(given)
    )


def preferred_wait(environ: WSGIEnvironment) -> int | None:
    """Seconds of `Prefer: wait=N` (RFC 7240), at most `MAX_WAIT`; None where it is not asked for.

    Without a number it is as long as the server allows. What cannot be read is a preference that is not
    known, and those are ignored; of several only the first counts.
    """
    given = environ.get("HTTP_PREFER")
    for preference in parse_list_header(given) if given is not None else ():
        if _name(preference) == "wait":
            found = _WAIT.fullmatch(preference.partition(";")[0].strip())
            if found is None:
                return None
            return min(MAX_WAIT, int(found[3][:18])) if found[3] else MAX_WAIT
    return None


def _name(item: str) -> str:
    """The name in an item of a header such as `name=value; parameter`, in lower case."""
    return re.split("[=;]", item, maxsplit=1)[0].strip().lower()


def known_query(request: Request, names: frozenset[str]) -> None:
    """Refuse parameters that mean nothing here, and those given twice. Raises `InvalidRequest`."""
    for name, values in request.args.lists():
        if name not in names:
            known = ", ".join(sorted(names))
            takes = f"it takes {known}" if known else "it takes none"
            raise bad_parameter(f"This call has no parameter {name[:40]!r}; {takes}.")
        if len(values) > 1:
            raise bad_parameter(f"'{name}' is given {len(values)} times. Give it once.")


def _parameter(here: RequestContext, name: str) -> str | None:
    if not here.environ.get("QUERY_STRING"):
        return None
    return here.request.args.get(name)


def seconds(
    here: RequestContext, name: str, *, default: float, maximum: float, clamp: bool = False
) -> float:
    """A duration from the query. Raises `InvalidRequest`."""
    given = _parameter(here, name)
    if given is None:
        return default
    if not _SECONDS.fullmatch(given):
        raise bad_parameter(f"'{name}' must be seconds from 0 to {maximum:g}, not {given[:40]!r}.")
    value = float(given)
    if value > maximum and not clamp:
        raise bad_parameter(f"'{name}' must be at most {maximum:g} seconds.")
    return min(value, maximum)


def moment(here: RequestContext, name: str) -> int | None:
    """An RFC 3339 time from the query as ms since 1970; None: there is none. Raises `InvalidRequest`."""
    given = _parameter(here, name)
    if given is None:
        return None
    # Of a '+' in a URL's query that is not escaped a blank is left.
    at = epoch_ms(given.replace(" ", "+"))
    if at is None:
        raise bad_parameter(
            f"'{name}' must be a time such as 2026-11-30T16:01:27Z, not {given[:40]!r}."
        )
    return at


def count(here: RequestContext, name: str, *, default: int, maximum: int) -> int:
    """A number from 1 to `maximum` from the query. Raises `InvalidRequest`."""
    given = _parameter(here, name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= maximum):
        raise bad_parameter(f"'{name}' must be from 1 to {maximum}, not {given[:40]!r}.")
    return int(given)


def json_object(here: RequestContext) -> dict[str, Any]:
    """The body as a JSON object, within the bounds of `decoded`. Raises `JobsError`."""
    require_json(here)
    settings = here.services.settings
    return decoded(raw_body(here, settings.max_body_bytes), settings.max_body_values)


def require_json(here: RequestContext) -> None:
    """Raises `JobsError` for a body that says to be anything else than JSON in UTF-8."""
    if here.environ.get("CONTENT_TYPE") == "application/json":
        return
    request = here.request
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype != "application/json" or charset not in ("utf-8", "utf8", "us-ascii"):
        raise JobsError(
            "Send the body as 'Content-Type: application/json', in UTF-8.",
            code="unsupported_media_type",
        )


def raw_body(here: RequestContext, limit: int) -> bytes:
    """The whole body, of at most `limit` bytes. Raises `JobsError`.

    (werkzeug's own bound cuts an unsized body off at the limit, without a word.)
    """
    length = _length(here)
    if length is not None and length > limit:
        raise too_large(limit)
    if length is not None:
        body = _read(here, length)
        if len(body) < length:
            raise JobsError("The body is shorter than its Content-Length.", code="bad_request")
        return body
    # Chunked, which only a server that ends the input by itself can hand over.
    body = _read(here, limit + 1) if here.environ.get("wsgi.input_terminated") else b""
    if len(body) > limit:
        raise too_large(limit)
    return body


def body_pieces(here: RequestContext, limit: int, size: int, seconds: float) -> Iterator[bytes]:
    """The body in pieces of at most `size` bytes, of at most `limit` in all, within so many seconds.

    Raises `JobsError`.
    """
    length = _length(here)
    if length is not None and length > limit:
        raise too_large(limit)
    if length is None and not here.environ.get("wsgi.input_terminated"):
        length = 0
    read = 0
    with _arriving(here, seconds):
        while length is None or read < length:
            piece = here.environ["wsgi.input"].read(
                size if length is None else min(size, length - read)
            )
            if not piece:
                break
            read += len(piece)
            if read > limit:
                raise too_large(limit)
            yield piece
    if length is not None and read < length:
        raise JobsError("The body is shorter than its Content-Length.", code="bad_request")


def _length(here: RequestContext) -> int | None:
    environ = here.environ
    given = environ.get("CONTENT_LENGTH", "")
    if "HTTP_TRANSFER_ENCODING" not in environ and given.isascii() and given.isdigit():
        return int(given)
    return here.request.content_length


def _read(here: RequestContext, length: int) -> bytes:
    seconds = here.services.settings.body_timeout
    try:
        with deadline(here.environ, seconds):
            body: bytes = here.environ["wsgi.input"].read(length)
    except Exception as error:  # each server has exceptions of its own for a body that breaks off
        raise _not_arrived(error, seconds) from error
    return body


@contextmanager
def _arriving(here: RequestContext, seconds: float) -> Iterator[None]:
    """While a body is read in pieces, which has so many seconds. Raises `JobsError`."""
    try:
        with deadline(here.environ, seconds):
            yield
    except JobsError:
        raise
    except Exception as error:  # see `_read`
        raise _not_arrived(error, seconds) from error


def _not_arrived(error: Exception, seconds: float) -> JobsError:
    """What is answered where `error` ended the reading of a body, which had so many seconds."""
    if isinstance(error, TimeoutError):
        detail = f"The body did not arrive within {seconds:g} seconds."
        return JobsError(detail, code="body_timeout")
    return JobsError(
        "The body broke off or its framing is not valid. Send the request again.",
        code="bad_request",
    )


def too_large(limit: int) -> JobsError:
    return JobsError(f"The body must be at most {limit} bytes.", code="body_too_large")


def bad_parameter(detail: str) -> InvalidRequest:
    """The refusal of a header or of a parameter of the query."""
    return InvalidRequest(detail, code="invalid_parameter")
