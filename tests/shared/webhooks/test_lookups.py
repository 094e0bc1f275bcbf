"""Look-ups that hang: they cost their tenant its share, and nobody else anything."""

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from shared.webhooks.lookups import Lookups, LookupsBusy, Unresolved
from tests.conftest import PATIENCE

ADDRESS = "93.184.216.34"


class Names:
    """A name service that answers for all hosts but those under `slow.`, until it is released."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.release = threading.Event()

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host.startswith("slow."):
            self.release.wait()
        return [ADDRESS]


@pytest.fixture
def names() -> Iterator[Names]:
    service = Names()
    yield service
    service.release.set()


@contextmanager
def impatient(lookups: Lookups) -> Iterator[None]:
    """For what must run out of time. All else has as much as a busy machine may need."""
    before, lookups._seconds = lookups._seconds, 0.02
    yield
    lookups._seconds = before


def hang(lookups: Lookups, tenant: str, number: int) -> None:
    """Let so many look-ups of a tenant run out of time."""
    with impatient(lookups):
        for _ in range(number):
            with pytest.raises(Unresolved) as failed:
                lookups.addresses("slow.example", 443, tenant)
            assert failed.value.passing


def refused(lookups: Lookups, tenant: str) -> LookupsBusy:
    """What a tenant that has used up its share is told of one more name."""
    with impatient(lookups), pytest.raises(LookupsBusy) as busy:
        lookups.addresses("fine.example", 443, tenant)
    return busy.value


def test_a_tenant_whose_look_ups_hang_gets_no_more_and_others_do(names: Names) -> None:
    lookups = Lookups(names, seconds=PATIENCE, most=16)

    hang(lookups, "greedy", 8)
    error = refused(lookups, "greedy")

    assert error.problem.status == 429 and error.retry_after > 0
    assert "fine.example" not in names.asked
    assert lookups.addresses("fine.example", 443, "modest") == [ADDRESS]


def test_several_tenants_together_leave_room_for_the_next(names: Names) -> None:
    lookups = Lookups(names, seconds=PATIENCE, most=16)
    for tenant, share in (("a", 8), ("b", 4), ("c", 2)):
        hang(lookups, tenant, share)
        assert refused(lookups, tenant).retry_after > 0
    assert lookups.addresses("fine.example", 443, "d") == [ADDRESS]


def test_what_no_longer_hangs_gives_its_place_back(names: Names) -> None:
    lookups = Lookups(names, seconds=PATIENCE, most=2)
    hang(lookups, "t", 1)
    assert refused(lookups, "t")

    names.release.set()

    assert lookups.addresses("fine.example", 443, "t") == [ADDRESS]


def test_a_burst_waits_for_its_turn_instead_of_failing() -> None:
    """More at once than a tenant's share, of a name service that answers."""
    met = threading.Semaphore(0)

    def answering(host: str, port: int) -> Sequence[str]:
        met.acquire(timeout=PATIENCE)
        return [ADDRESS]

    lookups, found = Lookups(answering, seconds=PATIENCE, most=4), []
    threads = [
        threading.Thread(target=lambda: found.append(lookups.addresses("x.example", 443, "t")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    met.release(8)
    for thread in threads:
        thread.join()
    assert found == [[ADDRESS]] * 8


def test_what_the_resolver_says_is_raised_and_gives_its_place_back() -> None:
    def unknown(host: str, port: int) -> Sequence[str]:
        raise Unresolved(host, passing=False)

    lookups = Lookups(unknown, most=2)
    for _ in range(3):
        with pytest.raises(Unresolved) as failed:
            lookups.addresses("nowhere.example", 443, "t")
        assert not failed.value.passing


GEVENT = """
from gevent import monkey; monkey.patch_all()
import gevent, threading
from gevent.hub import get_hub
from shared.webhooks.lookups import Lookups, LookupsBusy, Unresolved, resolve_by_system

hangs = monkey.get_original("_thread", "allocate_lock")()
hangs.acquire()
def hanging(host, port):
    if host == "slow":
        with hangs:
            pass
    return resolve_by_system("localhost", port)

lookups = Lookups(hanging, seconds=0.05, most=64)
def one(_):
    try:
        lookups.addresses("slow", 443, "greedy")
    except (Unresolved, LookupsBusy) as error:
        return type(error).__name__
found = [job.get() for job in [gevent.spawn(one, n) for n in range(40)]]
lookups._seconds = 60
print(found.count("Unresolved"), found.count("LookupsBusy"))
print(get_hub().threadpool.apply(lambda: "free"), lookups.addresses("fast", 443, "modest")[0])
hangs.release()
"""


def test_under_gevent_the_threads_of_all_others_stay_free() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GEVENT], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    counts, free = done.stdout.splitlines()
    assert counts == "32 8"
    assert free.split() == ["free", free.split()[1]] and free.split()[1] in ("127.0.0.1", "::1")
