"""Sends one webhook: resolves its host once, checks the addresses, connects to one that was checked.

httpcore gets a network backend that connects there and nowhere else, while Host and SNI stay the URL's.
No redirect is followed, no proxy or .netrc of the environment is read, no cookie is kept, and of the
answer only the status and `Retry-After` are looked at.
"""

import os
import re
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import certifi
import httpcore

from shared.webhooks.addresses import Address
from shared.webhooks.lookups import LookupsBusy, Unresolved
from shared.webhooks.policy import UrlPolicy
from shared.webhooks.schedule import Fault, Sent
from shared.webhooks.urls import Target, WebhookRefused

MAX_BODY = 64 * 1024
CONNECT_SECONDS = 5.0
"""For one of several addresses, so that a dead one leaves time for the next."""
USER_AGENT = "truthgpt-inference-webhooks"

_SECONDS = re.compile(r"\d{1,9}")


class Sender:
    """Sends signed bodies. `timeout` is for the whole of a send, in seconds."""

    def __init__(self, policy: UrlPolicy, timeout: float) -> None:
        self._policy = policy
        self._timeout = timeout
        self._tls = _trust()

    def send(self, url: str, body: bytes, headers: Mapping[str, str], tenant: str) -> Sent:
        """One POST for a tenant. Never raises: every way to fail is a `Sent` with its fault."""
        started = time.monotonic()

        def sent(status: int | None = None, fault: Fault = "", again: float | None = None) -> Sent:
            return Sent(status, fault, again, time.monotonic() - started)

        try:
            target = self._policy.target(url)
            addresses = self._policy.addresses(target, tenant)
            status, after = self._post(target, addresses, body, headers, started + self._timeout)
            return sent(status, again=after)
        except WebhookRefused:
            return sent(fault="address")
        except (Unresolved, LookupsBusy):
            return sent(fault="dns")
        except httpcore.TimeoutException:
            return sent(fault="timeout")
        except _TlsFailed:
            return sent(fault="tls")
        except httpcore.ConnectError:
            return sent(fault="connect")
        except (httpcore.NetworkError, httpcore.ProtocolError):
            return sent(fault="protocol")

    def _post(
        self,
        target: Target,
        addresses: Iterable[Address],
        body: bytes,
        headers: Mapping[str, str],
        deadline: float,
    ) -> tuple[int, float | None]:
        sent = {
            "Host": target.authority,
            "User-Agent": USER_AGENT,
            "Accept": "*/*",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **headers,
        }
        url = httpcore.URL(
            scheme=target.scheme.encode(),
            host=target.host.encode(),
            port=target.port,
            target=target.path.encode(),
        )
        backend = _Pinned(addresses, deadline)
        with (
            httpcore.ConnectionPool(
                ssl_context=self._tls, max_connections=1, network_backend=backend, retries=0
            ) as pool,
            pool.stream("POST", url, headers=list(sent.items()), content=body) as response,
        ):
            after = _retry_after(response.headers)
            _drain(response)
            return response.status, after


def _trust() -> ssl.SSLContext:
    """The certificates of certifi, or those that SSL_CERT_FILE names, or SSL_CERT_DIR."""
    if file := os.environ.get("SSL_CERT_FILE"):
        return ssl.create_default_context(cafile=file)
    if folder := os.environ.get("SSL_CERT_DIR"):
        return ssl.create_default_context(capath=folder)
    return ssl.create_default_context(cafile=certifi.where())


class _TlsFailed(httpcore.ConnectError):
    """The connection stands and the handshake failed."""


class _Pinned(httpcore.SyncBackend):
    """Connects to the given addresses, whatever host it is asked for, and to none after the deadline."""

    def __init__(self, addresses: Iterable[Address], deadline: float) -> None:
        self._addresses = [str(address) for address in addresses]
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002  resolved and checked before
        port: int,
        timeout: float | None = None,  # noqa: ARG002  the deadline bounds everything
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failed: Exception = httpcore.ConnectError("no address")
        for address in self._addresses:
            seconds = min(CONNECT_SECONDS, _left(self._deadline, httpcore.ConnectTimeout))
            try:
                stream = super().connect_tcp(address, port, seconds, local_address, socket_options)
                return _Bounded(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        raise httpcore.ConnectError("webhooks go over TCP")


class _Bounded(httpcore.NetworkStream):
    """A stream whose every operation ends at one deadline, so that a dripping answer cannot outlast it."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, _left(self._deadline, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, _left(self._deadline, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        seconds = _left(self._deadline, httpcore.ConnectTimeout)
        try:
            stream = self._stream.start_tls(ssl_context, server_hostname, seconds)
        except httpcore.ConnectError as error:
            raise _TlsFailed(str(error)) from error
        return _Bounded(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, over: Callable[[str], Exception]) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise over("the time for this send is over")
    return left


def _drain(response: httpcore.Response) -> None:
    """Read a short answer to its end, so that the receiver sees no reset; a long one is cut off."""
    read = 0
    try:
        for chunk in response.iter_stream():
            read += len(chunk)
            if read > MAX_BODY:
                return
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        # The status has come, and it is all that counts.
        return


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    for name, value in headers:
        if name.lower() != b"retry-after":
            continue
        text = value.decode("latin-1").strip()
        if _SECONDS.fullmatch(text):
            return float(text)
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except (ValueError, OverflowError, TypeError):
            return None
    return None
