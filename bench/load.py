"""The load generator, a process of its own: `python -m bench.load`, an `Order` on stdin.

A closed loop: each client sends a job, waits for its answer, sends the next. Every prompt is sent once,
and an answer counts when it holds exactly the prompt of its own request.
"""

import asyncio
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bench.connection import BadAnswer, Connection, Response
from bench.figures import percentile
from bench.order import Latency, Mark, Order, Report

KNOCK_SECONDS = 0.1
PAUSE_SECONDS = 0.1
"""After an error, so that a broken subject is not asked in a busy loop."""
SHOWN = 200
"""Characters of a wrong answer that are printed, once for each reason."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Fault(Exception):
    """An answer that does not count. `reason` is what it is counted under, `seen` what came."""

    def __init__(self, reason: str, seen: str = "") -> None:
        super().__init__(f"{reason}: {seen[:SHOWN]}" if seen else reason)
        self.reason = reason


class Load:
    """Carries one order out. `tell` gets the marks, `complain` a line for each new kind of error."""

    def __init__(
        self, order: Order, tell: Callable[[Mark], None], complain: Callable[[str], None]
    ) -> None:
        self._order = order
        self._tell = tell
        self._complain = complain
        self._host, self._port = _address(order.url)
        self._run_id = secrets.token_hex(6)
        self._over = False
        self._measuring = False
        self._latencies: list[float] = []
        self._errors: Counter[str] = Counter()
        self._right = 0
        self._requests = 0

    async def run(self) -> Report:
        """Knock, warm up, measure, let the last jobs end. Raises `Fault` when nobody answers."""
        await self._knock()
        self._right = self._requests = 0
        cpu = time.process_time()
        clients = [asyncio.create_task(self._client(n)) for n in range(self._order.clients)]
        await asyncio.sleep(self._order.warm_up)
        seconds = await self._measure()
        await self._finish(clients)
        return self._report(seconds, time.process_time() - cpu)

    async def _knock(self) -> None:
        """Ask until the first right answer: then all of the subject's processes are up."""
        refused: Fault | None = None
        connection = Connection(self._host, self._port)
        try:
            async with asyncio.timeout(self._order.patience):
                while True:
                    try:
                        await self._converse(connection, f"knock {secrets.token_hex(8)}")
                        return
                    except Fault as fault:
                        refused = fault
                        await asyncio.sleep(KNOCK_SECONDS)
        except TimeoutError:
            raise refused or Fault("no answer at all") from None
        finally:
            connection.close()

    async def _measure(self) -> float:
        """Returns how long the measured time was."""
        begun = time.perf_counter()
        self._measuring = True
        self._tell(Mark("begins"))
        await asyncio.sleep(self._order.seconds)
        self._measuring = False
        seconds = time.perf_counter() - begun
        self._tell(Mark("ends"))
        return seconds

    async def _finish(self, clients: list["asyncio.Task[None]"]) -> None:
        self._over = True
        ended, late = await asyncio.wait(clients, timeout=self._order.patience)
        for client in late:
            client.cancel()
            self._blame(Fault("no answer in time"))
        for client in ended:
            client.result()

    async def _client(self, number: int) -> None:
        connection = Connection(self._host, self._port)
        sent = 0
        try:
            while not self._over:
                sent += 1
                began = time.perf_counter()
                try:
                    await self._converse(connection, f"{self._run_id} {number} {sent} says hello")
                except Fault as fault:
                    self._blame(fault)
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                self._right += 1
                if self._measuring:
                    self._latencies.append(time.perf_counter() - began)
        finally:
            connection.close()

    async def _converse(self, connection: Connection, prompt: str) -> None:
        """One job, from its prompt to its right answer. Raises `Fault`."""
        dialect = self._order.dialect
        body = _encode({**dialect.fields, "prompt": prompt})
        document = await self._exchange(connection, self._request("POST", dialect.path, body))
        said = _at(document, dialect.answer)
        if said is None and dialect.polling is not None:
            polling = dialect.polling
            path = polling.path.format(id=_at(document, polling.job_id))
            look = self._request("GET", path)
            while said is None:
                await asyncio.sleep(polling.every)
                said = _at(await self._exchange(connection, look), dialect.answer)
        if said != prompt:
            raise Fault("wrong answer", f"{said!r} for {prompt!r}")

    async def _exchange(self, connection: Connection, request: bytes) -> Any:
        self._requests += 1
        try:
            response = await connection.exchange(request)
        except (BadAnswer, OSError) as error:
            raise Fault("connection failed", str(error)) from error
        return _document(response)

    def _request(self, method: str, path: str, body: bytes = b"") -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        lines += [f"{name}: {value}" for name, value in self._order.dialect.headers.items()]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def _blame(self, fault: Fault) -> None:
        if fault.reason not in self._errors:
            self._complain(str(fault))
        self._errors[fault.reason] += 1

    def _report(self, seconds: float, cpu_seconds: float) -> Report:
        ordered = sorted(self._latencies)
        p50, p95, p99 = (percentile(ordered, share) * 1000 for share in (0.5, 0.95, 0.99))
        return Report(
            answers=len(ordered),
            rate=len(ordered) / seconds,
            latency=Latency(p50, p95, p99),
            right=self._right,
            errors=dict(self._errors),
            requests=self._requests,
            cpu_seconds=cpu_seconds,
        )


def _document(response: Response) -> Any:
    if response.status >= 400:
        raise Fault(f"HTTP {response.status}", response.body.decode("utf-8", "replace"))
    try:
        return _decode(response.body)
    except msgspec.DecodeError as error:
        raise Fault("not JSON", response.body.decode("utf-8", "replace")) from error


def _at(document: Any, path: tuple[str, ...]) -> Any:
    """What stands at a path of member names, None where nothing does."""
    for name in path:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"a URL with host and port is needed, got {url!r}")
    return parts.hostname, parts.port


def main() -> int:
    """Read the order, write marks and the report; 1 with a line on stderr when nobody answers."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)

    def tell(message: Mark | Report) -> None:
        sys.stdout.buffer.write(_encode(message) + b"\n")
        sys.stdout.buffer.flush()

    def complain(line: str) -> None:
        print(f"load: {line}", file=sys.stderr, flush=True)

    try:
        tell(asyncio.run(Load(order, tell, complain).run()))
    except Fault as fault:
        complain(f"gave up on {order.url}: {fault}")
        return 1
    except BrokenPipeError:
        # Nobody reads the report any more: the harness was killed.
        os._exit(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
