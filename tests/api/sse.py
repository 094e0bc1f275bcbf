"""Reading a server's event stream over a plain socket, cut off wherever a test likes."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.api.conftest import AUTH, Reply, Server


@dataclass(frozen=True)
class Frame:
    """One event as it came."""

    id: str
    kind: str
    data: Any


class Reader:
    """One connection that reads events; use in a `with`, which hangs up."""

    def __init__(
        self,
        server: Server,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        token: bool = True,
    ) -> None:
        self._connection = server.connect()
        sent = {**(AUTH if token else {}), **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        data = json.dumps(body) if body is not None else None
        self._connection.request(method, path, data, sent)
        self.response: http.client.HTTPResponse = self._connection.getresponse()
        self.headers = self.response.headers

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        self.response.close()
        self._connection.close()

    def block(self) -> str | None:
        """The lines up to the next empty one, None at the end of the stream."""
        lines: list[str] = []
        while (line := self.response.readline().decode()) not in ("\n", ""):
            lines.append(line.rstrip("\n"))
        return "\n".join(lines) if lines or line else None

    def frame(self) -> Frame | None:
        """The next event, None at the end of the stream; skips comments and `retry`."""
        while (block := self.block()) is not None:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if line[0] != ":")
            if "event" in fields:
                return Frame(fields["id"], fields["event"], json.loads(fields["data"]))
        return None

    def frames(self) -> list[Frame]:
        """All events to the end of the stream."""
        found: list[Frame] = []
        while (frame := self.frame()) is not None:
            found.append(frame)
        return found

    def until(self, kind: str) -> Frame:
        """Read on to the first event of a kind."""
        while (frame := self.frame()) is not None:
            if frame.kind == kind:
                return frame
        raise AssertionError(f"the stream ended without a {kind} event")


def text_of(frames: list[Frame]) -> str:
    """The token texts of frames, joined."""
    return "".join(frame.data["text"] for frame in frames if frame.kind == "token")


def refusal(server: Server, path: str, headers: Mapping[str, str] | None = None) -> Reply:
    """The answer to a GET that opens no stream."""
    reply = server.request("GET", path, headers=headers)
    assert not reply.headers.get("Content-Type", "").startswith("text/event-stream")
    return reply
