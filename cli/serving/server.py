"""Starts and stops everything that `truthgpt up` runs: Redis and the server's processes."""

import errno
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from cli.serving.lifeline import Lifeline
from cli.serving.processes import process_lines
from cli.serving.readiness import await_models
from cli.serving.supervisor import FIRST_DELAY, LONGEST_DELAY, STEADY, TICK, Block, Spec, Supervisor
from cli.terminal.lines import JsonLines
from cli.terminal.screen import Summary, rendered, summary, summary_facts
from client import Client, Model
from shared.domain.errors import ConfigError
from shared.embedded_redis import EmbeddedRedis, free_port
from shared.embedded_redis.binaries import EmbeddedRedisFailed
from shared.redis.guard import ANNOUNCED, look
from shared.settings import ensure_token, load_settings, require_token_beyond_loopback
from shared.settings.sign_in_ticket import LIFETIME, issue_ticket
from shared.settings.state_dir import StateLock

DRAIN_MARGIN = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What `up` was asked for. Port 0 is any free one; `flower_port` None is no Flower."""

    host: str = "127.0.0.1"
    port: int = 8080
    flower_port: int | None = 5555
    state_dir: Path | None = None
    config: Path | None = None
    api_workers: int = 1
    own_redis: bool = False
    """Start a Redis even where REDIS_URL names one."""


class Server:
    """`Server(...)` refuses what cannot work, `run` serves until it is told to stop."""

    def __init__(self, options: Options, *, printer: Any = None) -> None:
        """Check everything that can be checked before a process is started. Raises `ConfigError`."""
        given = {"state_dir": options.state_dir, "config": options.config}
        settings = load_settings(**{name: value for name, value in given.items() if value})
        self._settings = settings
        self._catalog = settings.catalog
        self._own_redis = options.own_redis or not settings.redis_url
        self._notes: list[str] = []
        require_token_beyond_loopback(settings, options.host)
        self.state_dir = settings.state_dir.expanduser().resolve()
        self._lock = StateLock(self.state_dir)
        try:
            self._host = options.host
            self._port = _claim_port(options.host, options.port, "--port")
            self._flower_port = (
                None
                if options.flower_port is None
                else _claim_port("127.0.0.1", options.flower_port, "--flower-port")
            )
            self._token, self._token_path = ensure_token(settings)
            if not self._own_redis:
                self._notes += look(
                    settings.require_redis(), settings.redis_timeout, settings.key_prefix
                )
        except BaseException:
            self._lock.release()
            raise
        self._api_workers = options.api_workers
        self._drain = settings.drain_time + DRAIN_MARGIN
        # For a person in words, for a log collector as JSON; what the processes say and what we say alike.
        self._structured = (
            settings.enable_structured_logging and printer is None and not sys.stdout.isatty()
        )
        self._printer = JsonLines() if self._structured else printer
        self._over = threading.Event()

    @property
    def url(self) -> str:
        """Where clients on this machine find the API."""
        wildcard = self._host in ("0.0.0.0", "::")  # noqa: S104 - asked, not bound
        host = "127.0.0.1" if wildcard else self._host
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    def client(self) -> Client:
        return Client(self.url, self._token)

    def run(
        self,
        when_ready: Callable[[Supervisor], None] | None = None,
        *,
        patience: float = math.inf,
    ) -> None:
        """Serve until SIGINT, SIGTERM or `Supervisor.stop`. Nothing is left running when it returns.

        `when_ready` is called in a thread of its own once the table is out. A server that is not ready
        after `patience` seconds is stopped.
        """
        # Until the supervisor takes over, SIGTERM must not jump over the `finally`s.
        handler = signal.signal(signal.SIGTERM, _interrupt)
        lifeline = Lifeline(self._drain)
        redis: EmbeddedRedis | None = None
        try:
            if self._own_redis:
                redis = EmbeddedRedis(
                    self.state_dir, maxmemory=self._settings.embedded_redis_maxmemory
                )
                redis.start()
                lifeline.watch(redis.pid or 0, stage=1)
            supervisor = Supervisor(
                self._specs(),
                env=self._environment(redis),
                drain=self._drain,
                printer=self._printer,
                lifeline=lifeline,
            )
            for note in [*self._lock.notes, *self._notes]:
                supervisor.say(note)
            if redis is not None:
                for note in redis.notes:
                    supervisor.say(note)
                supervisor.say(
                    f"redis started (pid {redis.pid}): {redis.server}, data in {redis.folder}"
                )
                self._in_background(self._keep_redis, redis, supervisor, lifeline)
            self._in_background(self._announce, supervisor, when_ready, patience)
            supervisor.run()
        finally:
            self._over.set()
            if redis is not None:
                pid = redis.pid or 0
                redis.stop()
                lifeline.forget(pid)
            lifeline.close()
            self._lock.release()
            signal.signal(signal.SIGTERM, handler)

    def _specs(self) -> list[Spec]:
        lines = process_lines(self._catalog, flower=self._flower_port is not None)
        return [Spec(name, (sys.executable, "-m", "cli", *line)) for name, line in lines.items()]

    def _environment(self, redis: EmbeddedRedis | None) -> dict[str, str]:
        # Each command says itself which model it serves, if any.
        inherited = {name: text for name, text in os.environ.items() if name != "TRUTHGPT_MODEL"}
        env = {
            **inherited,
            "TRUTHGPT_STATE_DIR": str(self.state_dir),
            "HOST": self._host,
            "PORT": str(self._port),
            "WEB_CONCURRENCY": str(self._api_workers),
            "FLOWER_ADDRESS": "127.0.0.1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            # What was found out about Redis is said here, once.
            ANNOUNCED: "1",
            # A line shows when it is said, not when a pipe's buffer is full.
            "PYTHONUNBUFFERED": "1",
            "ENABLE_STRUCTURED_LOGGING": str(self._structured).lower(),
        }
        if self._flower_port is not None:
            env["FLOWER_PORT"] = str(self._flower_port)
        if self._settings.config is not None:
            env["TRUTHGPT_CONFIG"] = str(self._settings.config.resolve())
        if redis is not None:
            env["REDIS_URL"] = redis.url
        return env

    def _in_background(self, target: Callable[..., None], *args: Any) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()

    def _keep_redis(self, redis: EmbeddedRedis, supervisor: Supervisor, lifeline: Lifeline) -> None:
        """Start Redis again whenever it dies. Jobs are in its append-only file, workers reconnect."""
        delay, started = FIRST_DELAY, time.monotonic()
        while not self._over.wait(TICK):
            if redis.alive:
                continue
            lifeline.forget(redis.pid or 0)
            delay = FIRST_DELAY if time.monotonic() - started >= STEADY else delay
            supervisor.say(f"redis ended; starts again in {delay:g} s")
            if self._over.wait(delay):
                return
            delay, started = min(LONGEST_DELAY, delay * 2), time.monotonic()
            try:
                redis.restart()
            except EmbeddedRedisFailed as error:
                supervisor.say(error.detail)
            else:
                lifeline.watch(redis.pid or 0, stage=1)
                for note in redis.notes:
                    supervisor.say(note)
                supervisor.say(f"redis started (pid {redis.pid})")

    def _announce(
        self,
        supervisor: Supervisor,
        when_ready: Callable[[Supervisor], None] | None,
        patience: float,
    ) -> None:
        with self.client() as client:
            try:
                models = await_models(client, supervisor.say, self._over, patience)
            except TimeoutError as error:
                supervisor.say(str(error))
                supervisor.stop()
                return
        if self._over.is_set():
            return
        said = self._summary(models)
        shown = rendered(summary(said)) + self._sign_in_link()
        supervisor.show(Block(shown, "serving", summary_facts(said)))
        if when_ready is not None:
            when_ready(supervisor)

    def _sign_in_link(self) -> str:
        """A line with a link that signs in once; empty where a log may keep what is printed.

        What stands behind the # is sent to nobody, so no access log has it either.
        """
        if not sys.stdout.isatty():
            return ""
        ticket = issue_ticket(self._token)
        # Not in the table, which would break it over lines.
        return (
            f"\nSign in to the console, once and within {LIFETIME // 60} minutes:\n"
            f"{self.url}/console/sign-in#ticket={ticket}\n"
        )

    def _summary(self, models: list[Model]) -> Summary:
        path, flower = self._token_path, self._flower_port
        return Summary(
            api=self.url,
            flower=f"http://127.0.0.1:{flower}" if flower is not None else None,
            token=f"in {path}" if path is not None else "as set in TRUTHGPT_API_TOKEN",
            models=models,
        )


def _claim_port(host: str, port: int, option: str) -> int:
    """`port` when nobody listens there, or any free one for 0. Raises `ConfigError`."""
    try:
        return free_port(host, port)
    except OSError as error:
        why = "in use" if error.errno == errno.EADDRINUSE else str(error.strerror or error)
        raise ConfigError(f"{option} {port}: {host}:{port} is {why}; choose another one") from None


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
