"""A collector that is away costs one line and nothing else; one that comes is found."""

import logging
import socket
import threading
from collections.abc import Iterator

import pytest

from shared.telemetry.traces.collector import Collector
from tests.conftest import eventually
from tests.ports import free_port


class Lines(logging.Handler):
    """What the module under test has logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    caplog.set_level(logging.INFO, "shared.telemetry.traces.collector")
    handler, logger = Lines(), logging.getLogger("shared.telemetry.traces.collector")
    logger.addHandler(handler)
    yield handler.records
    logger.removeHandler(handler)


def test_it_is_looked_for_until_it_is_found(lines: list[logging.LogRecord]) -> None:
    port, found = free_port(), threading.Event()
    collector = Collector(f"http://127.0.0.1:{port}", found.set, interval=0.02)
    collector.start()
    eventually(lambda: lines)
    assert not collector.present and not found.is_set()

    with socket.create_server(("127.0.0.1", port)):
        eventually(lambda: collector.present)
    assert found.is_set()
    collector.stop()
    assert [record.levelname for record in lines] == ["INFO"]


def test_whether_it_is_there_can_be_waited_for() -> None:
    begun, allowed = threading.Event(), threading.Event()

    def begin() -> None:
        begun.set()
        allowed.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as server:
        collector = Collector(f"http://127.0.0.1:{server.getsockname()[1]}", begin)
        collector.start()
        assert begun.wait(60) and not collector.await_look(0.01)

        allowed.set()
        assert collector.await_look(60) and collector.present
        collector.stop()

    nobody = Collector(f"http://127.0.0.1:{free_port()}", begin)
    nobody.start()
    assert nobody.await_look(60) and not nobody.present
    nobody.stop()


def test_who_refuses_again_and_again_is_told_of_once(lines: list[logging.LogRecord]) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        collector = Collector(endpoint, lambda: None, interval=0.01)
        collector.start()
        for _ in range(5):
            eventually(lambda: collector.present)
            collector.lost()
        assert [record.levelname for record in lines] == ["INFO"]

        eventually(lambda: collector.present)
        collector.sent()
        collector.sent()
        assert len(lines) == 2 and lines[-1].getMessage() == f"traces go to {endpoint}"
        collector.lost()
        assert [record.levelname for record in lines] == ["INFO", "INFO", "WARNING"]
        collector.stop()


def test_what_cannot_begin_is_told_and_not_tried_again(lines: list[logging.LogRecord]) -> None:
    tries: list[int] = []

    def broken() -> None:
        tries.append(1)
        raise ImportError("no exporter")

    with socket.create_server(("127.0.0.1", 0)) as server:
        collector = Collector(f"http://127.0.0.1:{server.getsockname()[1]}", broken, interval=0.01)
        collector.start()
        eventually(lambda: lines)
        collector.stop()
    assert not collector.present and tries == [1]
    assert lines[-1].levelname == "ERROR" and lines[-1].exc_info is not None
