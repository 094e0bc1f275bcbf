"""Both ends of the socket between a worker and its engine host."""

import fcntl
import resource
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest

from tests.conftest import eventually
from workers.host_protocol.channel import AT_ONCE, SELECTABLE, Channel, to_host, to_worker
from workers.host_protocol.messages import Cancel, Command, Pulse, Report, Submit

LARGE = Submit("large", b"x" * (4 * AT_ONCE), 60, "expired")


class Ends:
    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.worker: Channel[Command, Report] = to_host(self.ours)
        self.host: Channel[Report, Command] = to_worker(self.theirs)

    def posted(self, *commands: Command) -> None:
        """Post in another thread, so that waiting would be seen."""
        thread = threading.Thread(target=self.worker.post, args=(commands,), daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "it waits for who does not read"


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.ours.close()
    ends.theirs.close()


def test_what_came_in_several_frames_is_read_at_once(ends: Ends) -> None:
    for ticket in ("a", "b", "c"):
        ends.worker.post([Cancel(ticket), Cancel(ticket + "!")])
    assert ends.host.receive() == [Cancel(t) for t in ("a", "a!", "b", "b!", "c", "c!")]
    assert ends.host.receive(0) == []


def test_reports_come_back(ends: Ends) -> None:
    ends.host.send([Pulse(3, 0.5)])
    assert ends.worker.receive(10) == [Pulse(3, 0.5)]


def test_post_waits_for_nobody_and_keeps_the_order(ends: Ends) -> None:
    ends.posted(LARGE)
    ends.posted(Cancel("large"), Cancel("other"))
    heard: list[Command] = []
    while len(heard) < 3:
        heard += ends.host.receive()
    assert heard == [LARGE, Cancel("large"), Cancel("other")]
    ends.posted(Cancel("last"))
    assert ends.host.receive() == [Cancel("last")]


def test_what_is_left_is_dropped_with_who_would_have_read_it(ends: Ends) -> None:
    ends.posted(LARGE)
    ends.theirs.close()
    eventually(lambda: not ends.worker._left)
    with pytest.raises(OSError):
        ends.worker.post([Cancel("a")])


@pytest.mark.parametrize("cut", [1, 4, 9])
def test_a_frame_that_has_begun_is_waited_for(ends: Ends, cut: int) -> None:
    body = msgspec.msgpack.encode([Cancel("a")])
    frame = len(body).to_bytes(4, "big") + body
    heard: list[Command] = []
    ends.ours.sendall(frame + frame[:cut])
    reader = threading.Thread(target=lambda: heard.extend(ends.host.receive()), daemon=True)
    reader.start()
    ends.ours.sendall(frame[cut:])
    reader.join(10)
    assert heard == [Cancel("a"), Cancel("a")]


@pytest.mark.parametrize("part", [2, 9])
def test_what_came_whole_is_told_before_the_end_of_the_other_side(ends: Ends, part: int) -> None:
    body = msgspec.msgpack.encode([Cancel("a")])
    frame = len(body).to_bytes(4, "big") + body
    ends.ours.sendall(frame + frame[:part])
    ends.ours.close()
    assert ends.host.receive(10) == [Cancel("a")]
    with pytest.raises(EOFError):
        ends.host.receive(10)


def test_a_process_with_many_descriptors_hears_as_well() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 2 * SELECTABLE if limits[1] == resource.RLIM_INFINITY else limits[1]
    ours, low = socket.socketpair()
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        theirs = socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, SELECTABLE))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    with ours, low, theirs:
        host = to_worker(theirs)
        assert host.receive(0) == host.receive(0.01) == []
        to_host(ours).post([Cancel("a")])
        assert host.receive(10) == [Cancel("a")]


@pytest.mark.parametrize("sent", [b"", b"\0", b"\0\0\0\x09half"])
def test_the_end_of_the_other_side_is_told(ends: Ends, sent: bytes) -> None:
    ends.ours.sendall(sent)
    ends.ours.close()
    with pytest.raises(EOFError):
        ends.host.receive(10)
