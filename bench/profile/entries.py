"""`python -m bench.profile.entries`: the ways of a job and of a token through the project, file by file.

A job is submitted in this process, as a client does it, and each call that goes from one of the project's
files into another is written down, until the call leaves for Redis. `bench.profile.token_entries` follows a
token in the same manner. The embedded server is started for it.
"""

import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

from flask import Flask
from werkzeug.test import EnvironBuilder, run_wsgi_app

from bench.programs import REPOSITORY
from bench.reporting.table import table
from shared.embedded_redis import EmbeddedRedis
from shared.redis.script_pipeline import ScriptPipeline

ROOT = f"{REPOSITORY}/"
LEAVES = ScriptPipeline.call_for
"""The last function of the project's own: what it is given goes to Redis."""
TOKEN = "t" * 32
PARTS = ("api/", "shared/", "workers/")


class Entry(NamedTuple):
    """A function that another of the project's files called, or a library that such a file had called."""

    file: str
    function: str


class Walk:
    """Writes down, in order, the entries into files of `PARTS` in the threads that it is set to profile.

    It begins with a call of `since`, or at once, and ends with one of `until`.
    """

    def __init__(
        self, until: Callable[..., object], since: Callable[..., object] | None = None
    ) -> None:
        self.found: list[Entry] = []
        self._since = None if since is None else since.__code__
        self._until = until.__code__
        self.ended = threading.Event()

    def restart(self) -> None:
        """Forget what was found, and wait for `since` again."""
        self.found.clear()
        self.ended.clear()

    def watch(self, frame: FrameType, event: str, _: Any) -> None:
        """What `sys.setprofile` takes."""
        code = frame.f_code
        if (
            event != "call"
            or self.ended.is_set()
            or not (self.found or self._since in (None, code))
        ):
            return
        file = code.co_filename.removeprefix(ROOT)
        if file.startswith(PARTS) and (code is self._since or file != _caller(frame)):
            self.found.append(Entry(file, _name(code)))
            if code is self._until:
                self.ended.set()

    @contextmanager
    def here(self) -> Iterator[None]:
        """Watch this thread."""
        before = sys.getprofile()
        sys.setprofile(self.watch)
        try:
            yield
        finally:
            sys.setprofile(before)


def _caller(frame: FrameType) -> str:
    """The nearest file of `PARTS` among those that a call came through."""
    back = frame.f_back
    while back is not None:
        file = back.f_code.co_filename.removeprefix(ROOT)
        if file.startswith(PARTS):
            return file
        back = back.f_back
    return ""


def _name(code: CodeType) -> str:
    return code.co_qualname.replace("<locals>.", "")


def submission(app: Any, token: str) -> Callable[[], object]:
    """What submits a job to an app in this process, as the project's client does."""
    environ = EnvironBuilder(
        path="/v1/jobs",
        method="POST",
        json={"model": "echo", "prompt": "hello"},
        headers=[("Authorization", f"Bearer {token}"), ("Idempotency-Key", os.urandom(8).hex())],
    ).get_environ()

    def submit() -> None:
        _, status, _ = run_wsgi_app(app, environ)
        assert status.startswith("202"), status

    return submit


def twice(found: Iterable[Entry]) -> dict[str, int]:
    """How often each file was entered that was entered more than once."""
    return {file: n for file, n in Counter(one.file for one in found).items() if n > 1}


def render(found: Sequence[Entry]) -> str:
    """The report as Markdown."""
    files = len({one.file for one in found})
    again = ", ".join(f"`{file}` {n}" for file, n in sorted(twice(found).items())) or "none"
    rows = [(str(at), f"`{one.file}`", f"`{one.function}`") for at, one in enumerate(found, 1)]
    return (
        f"{len(found)} entries into {files} files; entered more than once: {again}.\n\n"
        f"{table(('', 'file', 'function'), rows)}"
    )


def main() -> int:
    """0 when it ran."""
    from bench.profile.token_entries import way_of_a_token

    with tempfile.TemporaryDirectory() as folder:
        redis = EmbeddedRedis(Path(folder))
        redis.start()
        try:
            print(f"A job, from socket to Redis: {render(way_of_a_job(redis.url, Path(folder)))}\n")
            print(
                f"A token, from engine to reader: {render(way_of_a_token(redis.url, Path(folder)))}"
            )
        finally:
            redis.stop()
    return 0


def way_of_a_job(url: str, folder: Path) -> list[Entry]:
    """What a submission enters in an app in this process. `url`: of its Redis; `folder`: for its state."""
    walk = Walk(until=LEAVES)
    with served(url, folder) as app:
        submission(app, TOKEN)()  # What only the first one does is left out.
        submit = submission(app, TOKEN)
        with walk.here():
            submit()
    return walk.found


@contextmanager
def served(url: str, folder: Path) -> Iterator[Flask]:
    """An app in this process, of one echo model. `url`: of its Redis; `folder`: for its state."""
    from api.app import create_app
    from api.services import of
    from shared.settings import load_settings

    catalogue = folder / "catalog.yaml"
    catalogue.write_text("models: {echo: {engine: echo}}\n", "utf-8")
    settings = load_settings(
        REDIS_URL=url,
        TRUTHGPT_KEY_PREFIX=f"entries-{os.urandom(4).hex()}",
        TRUTHGPT_API_TOKEN=TOKEN,
        TRUTHGPT_CONFIG=catalogue,
        TRUTHGPT_STATE_DIR=folder,
    )
    app = create_app(settings, ring=lambda _: None)
    try:
        yield app
    finally:
        of(app).close()


if __name__ == "__main__":
    sys.exit(main())
