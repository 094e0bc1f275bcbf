"""One scenario's ground: a site, a history, a load, and what the scenario has to say at the end."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from redis.exceptions import RedisError

from tests.chaos.checker import Finding, Kind, check
from tests.chaos.history import Final, History
from tests.chaos.load import Load, Mix
from tests.chaos.site import MODEL, Site

CAPACITY = 16
ECHO = f"models: {{{MODEL}: {{engine: echo, batch: {{max_size: {CAPACITY}}}}}}}"
SETTLE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a scenario: jobs at least, faults, and seconds where a fault lasts."""

    n: int
    faults: int
    seconds: float = 0.0


def _plain(_: int) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Wiring:
    """Variables of the API's environment, and of each worker's by its number."""

    api: Mapping[str, str] = field(default_factory=dict)
    worker: Callable[[int], Mapping[str, str]] = _plain


class Skipped(Exception):
    """This machine cannot run the scenario; the message says what is missing."""


class Arena:
    """Given to a scenario. `require` states what must hold beyond the promise; `note` is for the reader."""

    def __init__(self, folder: Path, size: Size, seed: int) -> None:
        self.folder = folder
        self.size = size
        self.draw = random.Random(seed)
        self.history = History()
        self.site: Site | None = None
        self.jobs = 0
        self.faults = 0
        self.notes: list[str] = []
        self.failures: list[str] = []
        self.findings: list[Finding] = []
        self.excused = False
        self._may_fail = False
        self._cleanups: list[Callable[[], object]] = []

    async def open(
        self,
        catalogue: str = ECHO,
        *,
        workers: int = 2,
        wiring: Callable[[Site], Wiring] = lambda _: Wiring(),
        **env: str,
    ) -> Site:
        """Start API, rescuer and workers; return when all of them serve."""
        site = Site(self.folder / "site", catalogue, **env)
        self.site = site
        wires = wiring(site)
        with site.environment(**wires.api):
            site.start("api", "api")
        site.start("rescue", "rescue")
        for number in range(1, workers + 1):
            site.one(number, **wires.worker(number))
        await asyncio.to_thread(site.ready, MODEL)
        await site.serving(*range(1, workers + 1))
        return site

    def afterwards(self, cleanup: Callable[[], object]) -> None:
        """Call this once the site has been stopped."""
        self._cleanups.append(cleanup)

    def excuse(self) -> None:
        """The findings were to be measured and are no failure; they stay in the counts."""
        self.excused = True

    def may_fail(self) -> None:
        """Jobs may end as failed here: three crashes are lawfully the end of a job."""
        self._may_fail = True

    def keep_logs(self) -> None:
        """Put the logs of jobs that have ended into the history now, before they expire."""
        assert self.site is not None
        self.site.record_logs(self.history)

    def crowd(self, mix: Mix) -> Load:
        """Clients of the present site."""
        assert self.site is not None
        return Load(self.site.url, self.history, mix, self.draw.getrandbits(32))

    @asynccontextmanager
    async def load(self, mix: Mix) -> AsyncIterator[Load]:
        """Load around the body: at least the mix's jobs, and for as long as the body lasts."""
        enough = asyncio.Event()
        async with self.crowd(mix) as load:
            clients = asyncio.create_task(load.run(enough))
            try:
                yield load
            finally:
                # Whatever the body met: jobs that were accepted are followed to their end.
                enough.set()
                await clients
                self.jobs += load.accepted

    def fault(self, kind: str, target: str = "", victims: list[str] | None = None) -> None:
        """Record a fault that is being injected now."""
        self.faults += 1
        self.history.fault(kind, target, victims)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def require(self, holds: object, text: str) -> None:
        if not holds:
            self.failures.append(text)

    async def close(self) -> None:
        """Read the logs, judge, look for what is left over, and stop everything."""
        site, self.site = self.site, None
        try:
            if site is not None:
                await self._judge(site)
        except RedisError as error:
            self.failures.append(f"the logs could not be read: {error}")
        finally:
            self.history.dump(self.folder / "history.jsonl")
            if site is not None:
                await asyncio.to_thread(site.stop)
            for cleanup in self._cleanups:
                cleanup()
            self._cleanups.clear()

    async def _judge(self, site: Site) -> None:
        site.record_logs(self.history)
        self.findings += check(self.history)
        failed = [end.code for end in self.history.of(Final) if end.status == "failed"]
        if failed:
            words = f"{len(failed)} jobs failed: {', '.join(sorted(set(failed)))}"
            (self.notes if self._may_fail else self.failures).append(words)
        left: list[str] = []
        for _ in range(int(SETTLE_SECONDS)):
            left = []
            with suppress(RedisError):
                left = site.leftovers()
                if not left:
                    return
            await asyncio.sleep(1)
        self.findings += [Finding(Kind.LEFTOVER, "", what) for what in left]
