"""What is bound belongs to one thread or greenlet, and to one request."""

import threading
from collections.abc import Iterator

import pytest

from shared import context


@pytest.fixture(autouse=True)
def nothing_bound() -> Iterator[None]:
    context.begin()
    yield
    context.begin()


def test_a_new_beginning_forgets_the_last() -> None:
    context.begin(request_id="one", traceparent="")
    context.bind(tenant="a")
    assert dict(context.bound()) == {"request_id": "one", "tenant": "a"}

    context.begin(request_id="two")
    assert dict(context.bound()) == {"request_id": "two"}


def test_a_block_binds_its_own_alone() -> None:
    context.begin(request_id="one", traceparent="outer")
    with context.binding(traceparent="inner"):
        assert dict(context.bound()) == {"traceparent": "inner"}
        assert context.traceparent() == "inner"
    assert context.traceparent() == "outer"


def test_threads_do_not_see_each_other() -> None:
    seen: list[dict[str, str]] = []
    context.begin(request_id="one")

    thread = threading.Thread(target=lambda: seen.append(dict(context.bound())))
    thread.start()
    thread.join()

    assert seen == [{}]
