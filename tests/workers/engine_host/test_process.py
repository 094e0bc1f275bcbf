"""Engine hosts as processes: one that was started ahead is the first that is handed out."""

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shared.domain.models.catalog import ModelSpec
from tests.conftest import eventually
from workers.engine_host import process
from workers.engine_host.process import Host, spawn, spawn_ahead
from workers.host_protocol.messages import Cancel, Load, Ready, Stop


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Host]]:
    """Those that the test got. Nothing may be left of any."""
    monkeypatch.delenv("TRUTHGPT_MODEL", raising=False)
    before = set(psutil.Process().children())
    found: list[Host] = []
    yield found
    for host in found:
        host.channel.close()
        host.reaper.wait(10)
    assert set(psutil.Process().children()) <= before
    assert not process._ahead


def test_a_host_that_was_started_ahead_is_the_first_one(hosts: list[Host]) -> None:
    spawn_ahead()
    early = process._ahead[0].reaper.pid
    hosts += [spawn(), spawn()]
    assert [host.reaper.pid == early for host in hosts] == [True, False]
    eventually(lambda: all(host.channel.receive(0) for host in hosts), what="both pulse")


@pytest.mark.parametrize(("python", "named"), [(Path(sys.executable), ()), (None, ("PATH",))])
def test_a_model_with_an_interpreter_or_variables_of_its_own_gets_another_one(
    hosts: list[Host], python: Path | None, named: tuple[str, ...]
) -> None:
    spawn_ahead()
    early = process._ahead[0].reaper
    hosts.append(spawn(python, named))
    assert hosts[0].reaper.pid != early.pid and early.returncode is not None


def test_a_host_whose_worker_goes_before_it_said_anything_ends(hosts: list[Host]) -> None:
    host = spawn()
    hosts.append(host)
    eventually(lambda: host.channel.receive(0), what="it pulses")
    host.channel.close()
    assert host.reaper.wait(10) == 0


def test_what_comes_behind_the_model_before_a_host_reads_is_for_its_loop(
    hosts: list[Host],
) -> None:
    host = spawn()
    hosts.append(host)
    spec = ModelSpec(name="m", engine="tests.workers.faulty:Faulty")
    host.channel.post([Load(spec.model_dump_json().encode())])
    host.channel.post([Cancel("of an earlier host")])
    eventually(lambda: any(isinstance(r, Ready) for r in host.channel.receive(0)), what="it loads")
    host.channel.post([Stop()])
    assert host.reaper.wait(10) == 0
