"""Long inputs are read aside, one after the other."""

import os
import sys
import threading

import pytest

from tests.conftest import eventually
from workers.engines.batching.reader import NICE, POLL, Reader


def test_what_was_read_is_taken_once_with_what_went_wrong() -> None:
    reader: Reader[int] = Reader()
    refusal = ValueError("too long")

    def refused() -> int:
        raise refusal

    reader.begin("a", 1, lambda: 7)
    reader.begin("b", 1, refused)
    found: list[tuple[str, int | BaseException]] = []
    eventually(lambda: found.extend(reader.taken()) or len(found) == 2)

    assert found == [("a", 7), ("b", refusal)]
    assert len(reader) == 0
    assert reader.taken() == []


def test_the_loop_waits_only_while_it_has_nothing_else_to_do() -> None:
    reader: Reader[int] = Reader()
    go = threading.Event()

    assert reader.patience(busy=False) == 0
    reader.begin("a", 1, lambda: int(go.wait(10)))
    assert reader.patience(busy=False) == POLL
    assert reader.patience(busy=True) == 0
    go.set()
    eventually(lambda: reader.patience(busy=False) == 0)

    assert reader.taken() == [("a", 1)]


def test_a_dropped_input_is_not_read_or_not_told_and_its_name_is_free() -> None:
    reader: Reader[str] = Reader()
    go, read = threading.Event(), list[str]()

    def first() -> str:
        go.wait(10)
        return "first"

    reader.begin("a", 1, first)
    reader.begin("b", 1, lambda: read.append("b") or "b")
    reader.drop("a")
    reader.drop("b")
    reader.drop("unknown")
    reader.begin("a", 1, lambda: "again")
    assert len(reader) == 1
    go.set()
    found: list[tuple[str, str | BaseException]] = []
    eventually(lambda: found.extend(reader.taken()) or bool(found))

    assert found == [("a", "again")]
    assert read == []


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own there")
@pytest.mark.parametrize("yields", [True, False])
def test_the_thread_yields_to_the_model_unless_every_batch_waits_for_it(yields: bool) -> None:
    reader: Reader[int] = Reader(yields=yields)
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    reader.begin("a", 1, lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    found: list[tuple[str, int | BaseException]] = []
    eventually(lambda: found.extend(reader.taken()) or found)

    assert found == [("a", max(own, NICE) if yields else own)]


def test_the_shortest_input_goes_first() -> None:
    reader: Reader[str] = Reader()
    go = threading.Event()
    reader.begin("first", 9, lambda: str(go.wait(10)))
    for size, job in ((3, "long"), (2, "short"), (2, "short too")):
        reader.begin(job, size, lambda job=job: job)  # type: ignore[misc]
    go.set()
    found: list[tuple[str, str | BaseException]] = []
    eventually(lambda: found.extend(reader.taken()) or len(found) == 4)

    assert [job for job, _ in found if job != "first"] == ["short", "short too", "long"]


def test_a_panic_of_a_tokenizer_ends_its_own_reading_and_not_the_thread() -> None:
    class Panic(BaseException):
        """As `pyo3_runtime.PanicException`, which is no `Exception`."""

    reader: Reader[int] = Reader()
    panic = Panic("index out of bounds")

    def panics() -> int:
        raise panic

    found: list[tuple[str, int | BaseException]] = []
    reader.begin("a", 1, panics)
    eventually(lambda: found.extend(reader.taken()) or len(found) == 1)
    reader.begin("b", 1, lambda: 7)
    eventually(lambda: found.extend(reader.taken()) or len(found) == 2)

    assert found == [("a", panic), ("b", 7)]
