"""The load generator, a process of its own: `python -m bench.clients.load`, an `Order` on stdin.

Every prompt is sent once, and an answer counts when it holds exactly the prompt of its own request, or,
where jobs are only submitted, an id that no other answer held.
"""

import asyncio
import math
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from bench.clients.connection import Connection
from bench.clients.conversation import Conversation, Fault
from bench.clients.loops import closed_loop, open_loop
from bench.clients.order import Latency, Mark, Order, Report
from bench.reporting.figures import percentile

KNOCK_SECONDS = 0.1

_encode = msgspec.json.Encoder().encode


class Load:
    """Carries one order out. `tell` gets the marks, `complain` a line for each new kind of error."""

    def __init__(
        self, order: Order, tell: Callable[[Mark], None], complain: Callable[[str], None]
    ) -> None:
        self._order = order
        self._tell = tell
        self._complain = complain
        self._talk = Conversation(order.url, order.dialect, order.shape)
        self._run_id = secrets.token_hex(6)
        self._begun = self._ended = math.inf
        self._latencies: list[float] = []
        self._errors: Counter[str] = Counter()
        self._sent = self._right = self._unanswered = 0

    async def run(self) -> Report:
        """Knock, warm up, measure, let the last jobs end. Raises `Fault` when nobody answers."""
        await self._knock()
        self._talk.requests = 0
        cpu = time.process_time()
        loop = asyncio.create_task(self._loop())
        await asyncio.sleep(self._order.warm_up)
        await self._measure()
        await self._finish(loop)
        return self._report(time.process_time() - cpu)

    async def _knock(self) -> None:
        """Ask until the first right answer, then let processes that are not up yet come up."""
        refused: Fault | None = None
        connection = self.connect()
        try:
            async with asyncio.timeout(self._order.patience):
                while True:
                    try:
                        await self._talk.hold(connection, f"knock {secrets.token_hex(8)}")
                        break
                    except Fault as fault:
                        refused = fault
                        await asyncio.sleep(KNOCK_SECONDS)
        except TimeoutError:
            raise refused or Fault("no answer at all") from None
        finally:
            connection.close()
        await asyncio.sleep(self._order.settle)

    async def _loop(self) -> None:
        order = self._order
        if order.rate is None:
            await closed_loop(self, order.clients, lambda: self._ended < math.inf)
        else:
            await open_loop(self, order.rate, order.clients, lambda due: due >= self._ended)

    async def _measure(self) -> None:
        self._begun = time.perf_counter()
        self._tell(Mark("begins"))
        await asyncio.sleep(self._order.seconds)
        self._ended = time.perf_counter()
        self._tell(Mark("ends"))

    async def _finish(self, loop: "asyncio.Task[None]") -> None:
        ended, _ = await asyncio.wait({loop}, timeout=self._order.patience)
        if ended:
            loop.result()
        for _ in range(self._unanswered):
            self._blame(Fault("no answer in time"))
        loop.cancel()

    # -- Jobs

    def connect(self) -> Connection:
        return self._talk.connect()

    async def do(self, connection: Connection, due: float | None = None) -> bool:
        self._sent += 1
        self._unanswered += 1
        began = time.perf_counter() if due is None else due
        try:
            await self._talk.hold(connection, f"{self._run_id} {self._sent} says hello")
        except Fault as fault:
            self._blame(fault)
            return False
        finally:
            self._unanswered -= 1
        now = time.perf_counter()
        self._right += 1
        # An open loop's job belongs to the time in which it arrived, however late its answer is.
        if self._begun <= (now if due is None else due) < self._ended:
            self._latencies.append(now - began)
        return True

    def overrun(self) -> None:
        self._blame(Fault("too many jobs open"))

    def _blame(self, fault: Fault) -> None:
        if fault.reason not in self._errors:
            self._complain(str(fault))
        self._errors[fault.reason] += 1

    def _report(self, cpu_seconds: float) -> Report:
        ordered = sorted(self._latencies)
        p50, p95, p99 = (percentile(ordered, share) * 1000 for share in (0.5, 0.95, 0.99))
        return Report(
            answers=len(ordered),
            rate=len(ordered) / (self._ended - self._begun),
            latency=Latency(p50, p95, p99),
            right=self._right,
            errors=dict(self._errors),
            requests=self._talk.requests,
            cpu_seconds=cpu_seconds,
        )


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
