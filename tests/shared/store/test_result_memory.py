"""Results in memory: bounded in number and bytes, each with its time."""

from shared.domain.sharing import Result
from shared.store.result_memory import ResultMemory


def result(size: int = 10) -> Result:
    return Result(b"x" * size, b"")


def test_the_least_recently_used_goes_first() -> None:
    memory = ResultMemory(entries=3, size=3000)
    for digest in "abc":
        memory.put(digest, result(), 60)
    memory.get("a")
    memory.put("d", result(), 60)
    assert [digest for digest in "abcd" if memory.get(digest)] == ["a", "c", "d"]


def test_bytes_bound_it_too() -> None:
    memory = ResultMemory(entries=100, size=1000)
    for digest in "abc":
        memory.put(digest, result(400), 60)
    memory.put("large", result(1001), 60)
    assert [digest for digest in ("a", "b", "c", "large") if memory.get(digest)] == ["b", "c"]


def test_each_entry_has_its_own_time() -> None:
    now = [0.0]
    memory = ResultMemory(entries=10, size=1000, clock=lambda: now[0])
    memory.put("short", result(), 5)
    memory.put("long", result(), 50)
    now[0] = 6.0
    assert memory.get("short") is None and memory.get("long") == result()
    now[0] = 51.0
    assert memory.get("long") is None and len(memory) == 0


def test_what_is_forgotten_is_gone() -> None:
    memory = ResultMemory(entries=10, size=1000)
    memory.put("a", result(), 5)
    memory.forget("a")
    memory.forget("a")
    assert memory.get("a") is None
