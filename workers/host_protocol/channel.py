"""The socket between a worker and its engine host. A frame is a length and a list of messages in msgpack."""

import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from workers.host_protocol.messages import Command, Report

AT_ONCE = 256 * 1024
"""Bytes of one read: more than a socket holds, so what has come is taken whole."""
SELECTABLE = 1024
"""`select` cannot take descriptors from here on (FD_SETSIZE). `poll` can, but waits whole milliseconds."""

Says = TypeVar("Says")
Hears = TypeVar("Hears")

_LENGTH = struct.Struct("!I")
_encode = msgspec.msgpack.Encoder().encode


class Channel(Generic[Says, Hears]):
    """One end of the socket. Any thread may send; one receives.

    `send` waits while the other side does not read, `post` never does.
    """

    def __init__(
        self, connection: socket.socket, hears: msgspec.msgpack.Decoder[list[Hears]]
    ) -> None:
        self._socket = connection
        self._decode = hears.decode
        self._heard = bytearray(AT_ONCE)
        self._sending = threading.Lock()
        self._left: deque[memoryview] = deque()
        """Frames that there was no room for. While there are any a thread sends them."""

    def close(self) -> None:
        self._socket.close()

    def send(self, messages: Sequence[Says]) -> None:
        """Write one frame. Raises `OSError` when the other side is gone."""
        frame = self._frame(messages)
        with self._sending:
            self._socket.sendall(frame)

    def post(self, messages: Sequence[Says]) -> None:
        """Write one frame, without waiting: what there is no room for yet leaves by itself, in its order.

        Raises `OSError` when the other side is gone.
        """
        frame = self._frame(messages)
        with self._sending:
            if self._left:
                self._left.append(frame)
            elif rest := frame[self._room_for(frame) :]:
                self._left.append(rest)
                threading.Thread(target=self._send_left, name="channel", daemon=True).start()

    def receive(self, timeout: float | None = None) -> list[Hears]:
        """All messages that are here; while there are none wait up to `timeout` seconds (None: for ever).

        A frame of which a part is here is waited for: it is being written.
        Raises `EOFError` or `OSError` when the other side is gone, once all that came whole has been told.
        """
        if timeout is not None and not self._comes(timeout):
            return []
        count = self._socket.recv_into(self._heard)
        if not count:
            raise EOFError
        messages: list[Hears] = []
        heard = memoryview(self._heard)[:count]
        while heard:
            try:
                heard, end = self._whole(heard)
            except (EOFError, OSError):
                if not messages:
                    raise
                break
            messages += self._decode(heard[_LENGTH.size : end])
            heard = heard[end:]
        return messages

    def _comes(self, timeout: float) -> bool:
        """Whether there is something to read within so many seconds."""
        if self._socket.fileno() < SELECTABLE:
            return bool(select.select((self._socket,), (), (), timeout)[0])
        readable = select.poll()
        readable.register(self._socket, select.POLLIN)
        return bool(readable.poll(timeout * 1000))

    @staticmethod
    def _frame(messages: Sequence[Says]) -> memoryview:
        body = _encode(messages)
        return memoryview(_LENGTH.pack(len(body)) + body)

    def _room_for(self, frame: memoryview) -> int:
        """Write as much of a frame as there is room for. Returns how much."""
        try:
            return self._socket.send(frame, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def _send_left(self) -> None:
        """Send frames until none is left; with the other side gone they are of no use to anybody."""
        while True:
            try:
                self._socket.sendall(self._left[0])
            except OSError:
                with self._sending:
                    self._left.clear()
                return
            with self._sending:
                self._left.popleft()
                if not self._left:
                    return

    def _whole(self, heard: memoryview) -> tuple[memoryview, int]:
        """What was heard, with all of its first frame, and where that ends."""
        if len(heard) < _LENGTH.size:
            heard = memoryview(self._completed(heard, _LENGTH.size))
        end = _LENGTH.size + _LENGTH.unpack_from(heard)[0]
        if len(heard) < end:
            heard = memoryview(self._completed(heard, end))
        return heard, end

    def _completed(self, begun: memoryview, length: int) -> bytearray:
        """What has begun, with all that belongs to it up to `length`."""
        whole = bytearray(begun)
        while len(whole) < length:
            rest = self._socket.recv(length - len(whole), socket.MSG_WAITALL)
            if not rest:
                raise EOFError
            whole += rest
        return whole


def to_host(connection: socket.socket) -> Channel[Command, Report]:
    """The worker's end of a connection to an engine host."""
    return Channel(connection, msgspec.msgpack.Decoder(list[Report]))


def to_worker(connection: socket.socket) -> Channel[Report, Command]:
    """The engine host's end of a connection to its worker."""
    return Channel(connection, msgspec.msgpack.Decoder(list[Command]))
