"""Processes that a model starts from its host: they start clean, hear signals, and hold nothing of ours."""

import signal
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from shared.domain.models.catalog import Limits, ModelSpec
from tests.conftest import eventually
from tests.workers.engine_host.test_client import Listener
from workers.engine_host.client import EngineClient
from workers.engine_host.events import EngineState
from workers.host_protocol.messages import Submit


class Model:
    def __init__(self) -> None:
        engine = "tests.workers.forking:Forking"
        self.listener = Listener()
        spec = ModelSpec(name="m", engine=engine, device="cpu", limits=Limits(step_timeout=60))
        self.client = EngineClient(spec, self.listener)
        self.client.start()
        eventually(lambda: self.client.state is EngineState.READY, 60)

    def answers(self, content: str) -> Any:
        before = len(self.listener.outcomes)
        request = msgspec.json.encode({"content": content, "params": {}, "seed": 1})
        assert self.client.send([Submit(f"t{before}", request, 90, "expired")])
        eventually(lambda: len(self.listener.outcomes) > before, 90, content)
        end = self.listener.outcomes[-1]
        assert end.kind == "finished", end
        return msgspec.json.decode(end.output)


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.client.stop()
    assert made.client.restarts == 0


def test_a_pool_begins_in_a_process_without_threads_and_ends(model: Model) -> None:
    for _ in range(3):
        assert model.answers("pool") == ["forkserver", 1, 2, 3]
    assert model.answers("executor") == [1, 2]


def test_a_fork_of_the_host_hears_sigterm(model: Model) -> None:
    assert [model.answers("fork") for _ in range(5)] == [signal.SIGTERM] * 5


def test_a_program_ignores_no_signal_that_its_model_did_not_ignore(model: Model) -> None:
    ignored = model.answers("ignored")
    assert not ignored & (1 << (signal.SIGTERM - 1) | 1 << (signal.SIGINT - 1))


def test_a_program_holds_no_socket_of_ours_even_if_it_inherits_descriptors(model: Model) -> None:
    assert not [name for name in model.answers("open") if "socket" in name or "progress" in name]
