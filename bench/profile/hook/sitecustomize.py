"""Samples the process that imports it, as `bench.profile.sampler` asks by `PROFILE_FOLDER`.

Python imports a module of this name by itself at its start. Each few milliseconds of processor time a
signal comes; what each thread has used since the last one is put down to where it stands now.
"""

import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

TICK = 0.005
LOOK_EVERY = 0.05
WRITE_EVERY = 1.0
_sleep = time.sleep  # gevent puts its own in the place of this one
_HERE = f"{Path.cwd()}/"
_FOLDER = os.environ.get("PROFILE_FOLDER", "")


class _Samples:
    def __init__(self) -> None:
        self._main = threading.main_thread().ident
        self._clocks: dict[int, float] = {}
        self._spent: Counter[str] = Counter()
        self._wanted = Path(_FOLDER) / "wanted"
        self._written = 0.0

    def start(self) -> None:
        """Tick as soon as samples are wanted. Not before: a timer outlives exec, its handler does not."""
        signal.signal(signal.SIGPROF, self.tick)
        threading.Thread(target=self._await, name="profile", daemon=True).start()

    def _await(self) -> None:
        while not self._wanted.exists():
            _sleep(LOOK_EVERY)
        signal.setitimer(signal.ITIMER_PROF, TICK, TICK)

    def tick(self, _signum: int, frame: FrameType | None) -> None:
        if not self._wanted.exists():
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._write()
            return
        # Under gevent the frame of the greenlet that runs is the one that the signal met.
        for thread, standing in sys._current_frames().items():
            self._look(thread, frame if thread == self._main else standing)
        if time.monotonic() - self._written > WRITE_EVERY:
            self._write()

    def _look(self, thread: int, frame: FrameType | None) -> None:
        try:
            now = time.clock_gettime(time.pthread_getcpuclockid(thread))
        except OSError:
            return
        before = self._clocks.get(thread)
        self._clocks[thread] = now
        if before is not None and now > before:
            self._spent[_spelled(frame)] += round((now - before) * 1e6)

    def _write(self) -> None:
        self._written = time.monotonic()
        path = self._wanted.with_name(f"stacks-{os.getpid()}")
        new = path.with_suffix(".new")
        new.write_text("".join(f"{s} {spent}\n" for s, spent in self._spent.items()), "utf-8")
        new.replace(path)


def _spelled(frame: FrameType | None) -> str:
    """The outermost frame first, each as `function (path from the root of its package)`."""
    frames: list[str] = []
    while frame is not None:
        code = frame.f_code
        path = code.co_filename.rpartition("site-packages/")[2]
        frames.append(f"{code.co_qualname} ({path.removeprefix(_HERE)})")
        frame = frame.f_back
    return ";".join(reversed(frames))


def _begin() -> None:
    _Samples().start()


if _FOLDER:
    # Timers are not inherited.
    os.register_at_fork(after_in_child=_begin)
    _begin()
