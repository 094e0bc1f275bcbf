"""Reading requests: bodies within bounds, headers and parameters checked, each fault a 4xx that helps."""

import os
import re
from typing import Any, cast

import msgspec
from werkzeug.http import parse_list_header

from api import current
from api.connection import BODY_IS_HERE, deadline
from api.services import services
from shared.errors import InvalidRequest, JobsError

MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1
MAX_WAIT = 60

_DECODER = msgspec.json.Decoder()
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_IDEMPOTENCY_KEY = re.compile(r"[ -~]{1,255}")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_SECONDS = re.compile(r"\d{1,20}(\.\d{1,20})?([eE][+-]?\d{1,3})?")


def request_id() -> str:
    """The caller's `X-Request-ID` when it is a sane one, else a new one."""
    given = current.environ().get("HTTP_X_REQUEST_ID")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return cast(str, given)
    return f"req_{os.urandom(12).hex()}"


def traceparent() -> str:
    """The W3C trace context of the caller, '' where there is none or it is malformed."""
    given: str = current.environ().get("HTTP_TRACEPARENT", "")
    return given if given and _TRACEPARENT.fullmatch(given) else ""


def idempotency_key() -> str | None:
    """The `Idempotency-Key`. Raises `InvalidRequest` for one that is not 1-255 printable ASCII."""
    given = current.environ().get("HTTP_IDEMPOTENCY_KEY")
    if given is not None and not _IDEMPOTENCY_KEY.fullmatch(given):
        raise _bad_parameter("Idempotency-Key must be 1 to 255 printable ASCII characters.")
    return given


def no_store() -> bool:
    """Whether the caller asks for a result of its own: `Cache-Control: no-store`."""
    given = current.environ().get("HTTP_CACHE_CONTROL")
    return given is not None and bool(current.request().cache_control.no_store)


def preferred_wait() -> int | None:
    """Seconds of `Prefer: wait=N` (RFC 7240), at most `MAX_WAIT`; None where it is not asked for."""
    header = current.environ().get("HTTP_PREFER")
    if header is None:
        return None
    for preference in parse_list_header(header):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() != "wait":
            continue
        value = value.strip().strip('"')
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            raise _bad_parameter(
                f"'Prefer: wait' needs whole seconds from 0 to {MAX_WAIT}, such as wait=10."
            )
        return min(MAX_WAIT, int(value))
    return None


def known_query(names: frozenset[str]) -> None:
    """Refuse parameters that mean nothing here, and those given twice. Raises `InvalidRequest`."""
    if not current.environ().get("QUERY_STRING"):
        return
    for name, values in current.request().args.lists():
        if name not in names:
            known = ", ".join(sorted(names))
            takes = f"it takes {known}" if known else "it takes none"
            raise _bad_parameter(f"This call has no parameter {name[:40]!r}; {takes}.")
        if len(values) > 1:
            raise _bad_parameter(f"'{name}' is given {len(values)} times. Give it once.")


def _parameter(name: str) -> str | None:
    if not current.environ().get("QUERY_STRING"):
        return None
    return current.request().args.get(name)


def seconds(name: str, *, default: float, maximum: float, clamp: bool = False) -> float:
    """A duration from the query. Raises `InvalidRequest`."""
    given = _parameter(name)
    if given is None:
        return default
    if not (given.isascii() and _SECONDS.fullmatch(given)):
        raise _bad_parameter(f"'{name}' must be seconds from 0 to {maximum:g}, not {given[:40]!r}.")
    value = float(given)
    if value > maximum and not clamp:
        raise _bad_parameter(f"'{name}' must be at most {maximum:g} seconds.")
    return min(value, maximum)


def count(name: str, *, default: int, maximum: int) -> int:
    """A number from 1 to `maximum` from the query. Raises `InvalidRequest`."""
    given = _parameter(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= maximum):
        raise _bad_parameter(f"'{name}' must be from 1 to {maximum}, not {given[:40]!r}.")
    return int(given)


def json_object() -> dict[str, Any]:
    """The body as a JSON object, safe for everything downstream.

    At most `MAX_DEPTH` deep, integers within 64 bits, no member named twice. The decoder itself stops
    at depths and digits that would cost more than they are worth. Raises `JobsError` with the code that
    fits.
    """
    require_json()
    return decoded(raw_body())


def decoded(body: bytes) -> dict[str, Any]:
    """The same of a body that was read already."""
    try:
        value = _DECODER.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise JobsError(
            f"The body cannot be read as JSON: {error}.", code="malformed_json"
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest('The body must be a JSON object, such as {"model": "…"}.')
    if _has_repeats(body, _check_bounds(value)):
        raise JobsError("An object in the body names a member twice.", code="malformed_json")
    return value


def require_json() -> None:
    """Raises `JobsError` for a body that says to be anything else than JSON in UTF-8."""
    if current.environ().get("CONTENT_TYPE") == "application/json":
        return
    request = current.request()
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype != "application/json" or charset not in ("utf-8", "utf8", "us-ascii"):
        raise JobsError(
            "Send the body as 'Content-Type: application/json', in UTF-8.",
            code="unsupported_media_type",
        )


def raw_body() -> bytes:
    """The whole body, within the limit.

    (werkzeug's own bound cuts an unsized body off at the limit, without a word.)
    """
    limit, length = services().settings.max_body_bytes, _length()
    if length is not None and length > limit:
        raise _too_large(limit)
    if length is not None:
        body = _read(length)
        if len(body) < length:
            raise JobsError("The body is shorter than its Content-Length.", code="bad_request")
        return body
    # Chunked, which only a server that ends the input by itself can hand over.
    body = _read(limit + 1) if current.environ().get("wsgi.input_terminated") else b""
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _length() -> int | None:
    environ = current.environ()
    given = environ.get("CONTENT_LENGTH", "")
    if "HTTP_TRANSFER_ENCODING" not in environ and given.isascii() and given.isdigit():
        return int(given)
    return current.request().content_length


def _read(length: int) -> bytes:
    here = current.handling()
    environ, seconds = here.environ, here.services.settings.body_timeout
    if BODY_IS_HERE in environ:
        return cast(bytes, environ["wsgi.input"].read(length))
    try:
        with deadline(environ, seconds):
            body: bytes = environ["wsgi.input"].read(length)
    except TimeoutError:
        raise JobsError(
            f"The body did not arrive within {seconds:g} seconds.", code="body_timeout"
        ) from None
    except Exception as error:  # each server has exceptions of its own for a body that breaks off
        raise JobsError(
            "The body broke off or its framing is not valid. Send the request again.",
            code="bad_request",
        ) from error
    return body


def _check_bounds(value: Any) -> int:
    """How many members all objects have together."""
    level, depth, members = [value], 1, 0
    while level:
        if depth > MAX_DEPTH:
            raise _too_deep()
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                members += len(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, int) and not -MAX_INTEGER <= item <= MAX_INTEGER:
                raise InvalidRequest("Integers must fit into 64 bits; send larger ones as strings.")
        level, depth = below, depth + 1
    return members


def _has_repeats(body: bytes, members: int) -> bool:
    """Whether an object in valid JSON names a member twice; a parser keeps one of them, each another.

    Every member has one colon outside strings.
    """
    return body.count(b":") != members and _STRING.sub(b"", body).count(b":") != members


def _too_large(limit: int) -> JobsError:
    return JobsError(f"The body must be at most {limit} bytes.", code="body_too_large")


def _too_deep() -> JobsError:
    return JobsError(f"The body is nested deeper than {MAX_DEPTH} levels.", code="malformed_json")


def _bad_parameter(detail: str) -> InvalidRequest:
    return InvalidRequest(detail, code="invalid_parameter")
