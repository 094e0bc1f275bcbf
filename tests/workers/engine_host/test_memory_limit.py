"""When a host is let be, drained, replaced, killed."""

from workers.engine_host.memory_limit import IDLE_PULSES, MemoryLimit


def test_without_a_limit_everything_is_fine() -> None:
    assert MemoryLimit(None).judge(1 << 50, 0.0) == "fine"


def test_up_to_the_limit_nothing_happens() -> None:
    limit = MemoryLimit(100)

    assert [limit.judge(memory, 0.0) for memory in (0, 99, 100)] == ["fine"] * 3
    assert not limit.draining


def test_above_it_the_host_is_drained_once_and_replaced_when_idle() -> None:
    limit = MemoryLimit(100, drain_seconds=10)
    for _ in range(5):
        limit.pulse(0)

    assert limit.judge(101, 0.0) == "drain"
    assert limit.draining
    limit.pulse(3)
    assert limit.judge(110, 1.0) == "fine"
    for _ in range(IDLE_PULSES):
        assert limit.judge(110, 2.0) == "fine"
        limit.pulse(0)
    assert limit.judge(110, 3.0) == "replace"


def test_a_host_that_shrinks_again_is_replaced_all_the_same() -> None:
    limit = MemoryLimit(100, drain_seconds=10)
    limit.judge(101, 0.0)

    assert limit.judge(50, 5.0) == "fine"
    assert limit.judge(50, 10.0) == "replace"


def test_far_above_it_is_killed_drained_or_not() -> None:
    limit = MemoryLimit(100)

    assert limit.judge(126, 0.0) == "kill"
    limit.judge(101, 0.0)
    assert limit.judge(126, 0.0) == "kill"
