"""HTTP to one server: adds the token, sets time limits, repeats calls whose failure may pass."""

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_before_delay,
    wait_random_exponential,
)

from client.errors import ApiError, ClientError, ConnectionFailed, api_error

TRANSIENT = frozenset({429, 502, 503, 504})
"""Statuses that another try may change."""
HOPELESS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
SILENCE = 45.0
"""Seconds without a byte after which a stream is dead: the server sends a heartbeat every 15."""

_jitter = wait_random_exponential(multiplier=0.2, max=5)


class Connection:
    """Safe to share between threads."""

    def __init__(self, base_url: str, token: str | None, timeout: float, retry_for: float) -> None:
        self.base_url = base_url.rstrip("/")
        token = token if token is not None else os.environ.get("TRUTHGPT_API_TOKEN")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ClientError("the token holds characters that no HTTP header can carry")
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL as error:
            raise ClientError(f"{base_url!r} is not a URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ClientError(
                f"{base_url!r} is not the URL of a server: it begins with http:// or https://, "
                "such as http://127.0.0.1:8080"
            )
        self._timeout = timeout
        self._retry_for = retry_for
        self._http = httpx.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=timeout,
            # A proxy from the environment has no business between us and this very machine.
            trust_env=not is_loopback(url.host),
            # Without TLS nothing is verified, and to read all authorities' certificates is most of a start.
            verify=url.scheme == "https",
        )

    def close(self) -> None:
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        hold: float = 0.0,
        retry: bool = True,
    ) -> httpx.Response:
        """One call, tried again for up to `retry_for` seconds where that is safe and may help.

        `hold` is how many seconds the server was asked to hold its answer. Only calls that may be
        repeated go with `retry`. Raises `ApiError` or `ConnectionFailed`.
        """

        def once() -> httpx.Response:
            try:
                response = self._http.request(
                    method,
                    path,
                    json=json,
                    params=params,
                    headers=headers,
                    timeout=httpx.Timeout(self._timeout, read=self._timeout + hold),
                )
            except httpx.TransportError as error:
                raise self._failed(error) from error
            if response.is_success:
                return response
            raise api_error(response)

        if not retry:
            return once()
        return Retrying(
            retry=retry_if_exception(_may_pass),
            wait=_pause,
            stop=stop_before_delay(self._retry_for),
            reraise=True,
        )(once)

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        """A response whose body is read as it arrives; errors of httpx come through as they are."""
        with self._http.stream(
            method,
            path,
            json=json,
            headers={"Accept": "text/event-stream", **(headers or {})},
            timeout=httpx.Timeout(self._timeout, read=SILENCE),
        ) as response:
            yield response

    def _failed(self, error: httpx.TransportError) -> ConnectionFailed:
        return ConnectionFailed(self.base_url, reason(error))


def reason(error: httpx.TransportError) -> str:
    """What httpx says, without the number that the system gave it."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, ConnectionFailed):
        return not isinstance(error.__cause__, HOPELESS)
    return isinstance(error, ApiError) and error.status in TRANSIENT


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after if isinstance(error, ApiError) else None
    return max(_jitter(state), asked or 0.0)
