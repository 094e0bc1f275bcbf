"""A TCP proxy on loopback that breaks on demand: delays, holds, swallows, resets, heals.

It runs in a thread of its own, so a busy test does not slow it down. `up` is from the client to the
server, `down` the way back. A held connection behaves like a network that drops packets: what was on
its way arrives late, once healed. A swallowed one has lost bytes and can only be reset when healed.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

Way = Literal["up", "down"]
BOTH: frozenset[Way] = frozenset({"up", "down"})
CHUNK = 65536
LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Fault:
    """What the proxy does to each way. `delay` is in seconds a chunk."""

    delay: float = 0.0
    held: frozenset[Way] = frozenset()
    swallowed: frozenset[Way] = frozenset()


HEALTHY = Fault()


@dataclass(eq=False)
class _Link:
    """One connection through the proxy. `short`: bytes of it were swallowed."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    short: bool = False

    def reset(self) -> None:
        """Close both ends with RST."""
        for writer in self.writers:
            raw = writer.get_extra_info("socket")
            if raw is not None:
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class FaultProxy:
    """Forwards 127.0.0.1:`port` to a target port until told otherwise; use in a `with`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._fault = HEALTHY
        self._links: set[_Link] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(self, *exc: object) -> None:
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many connections go through now."""
        return len(self._links)

    def delay(self, seconds: float) -> None:
        """Every chunk takes so much longer, each way."""
        self._fault = Fault(delay=seconds)

    def drop(self, *ways: Way) -> None:
        """Swallow what is sent, one way or both; accept new connections and swallow theirs too."""
        self._fault = Fault(swallowed=frozenset(ways) or BOTH)

    def hold(self, *ways: Way) -> None:
        """Let nothing through, one way (half open) or both (black hole), but lose nothing."""
        self._fault = Fault(held=frozenset(ways) or BOTH)

    def reset(self) -> int:
        """Cut every connection with RST. Returns how many there were."""
        cut: int = self._call(self._reset(lambda _: True))
        return cut

    def heal(self) -> None:
        """Forward again; held bytes go out, connections that lost bytes are reset."""
        self._fault = HEALTHY
        self._call(self._reset(lambda link: link.short))

    # -- inside the loop

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._listener)

    async def _shut(self) -> None:
        self._server.close()
        await self._reset(lambda _: True)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _reset(self, chosen: Any) -> int:
        links = [link for link in self._links if chosen(link)]
        for link in links:
            link.reset()
        return len(links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link([writer])
        self._links.add(link)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            link.writers.append(back)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(link, "up", reader, back))
                pumps.create_task(self._pump(link, "down", there, writer))
        except (OSError, ExceptionGroup):
            pass
        finally:
            self._links.discard(link)
            for end in link.writers:
                end.transport.abort() if link.short else end.close()

    async def _pump(
        self, link: _Link, way: Way, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        while chunk := await source.read(CHUNK):
            if self._fault.delay:
                await asyncio.sleep(self._fault.delay)
            while way in self._fault.held:
                await asyncio.sleep(LOOK_SECONDS)
            if way in self._fault.swallowed:
                link.short = True
                continue
            sink.write(chunk)
            await sink.drain()
        while way in self._fault.held | self._fault.swallowed:
            # A FIN does not get through either.
            await asyncio.sleep(LOOK_SECONDS)
        with suppress(OSError):
            sink.write_eof()
