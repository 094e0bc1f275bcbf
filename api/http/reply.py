"""An answer that is all here, as views make it: for Flask, or for a server to send as it is."""

from collections.abc import Callable

from flask import Response
from werkzeug.http import HTTP_STATUS_CODES

_PHRASES = {code: f"{code} {phrase.upper()}" for code, phrase in HTTP_STATUS_CODES.items()}


class Reply:
    """What Flask's `Response` is, without what only a browser's page or a stream needs.

    `headers` leave in the order in which they were set, under the names that were given.
    """

    __slots__ = ("_closers", "body", "headers", "status_code")

    def __init__(self, body: bytes, status: int, media_type: str) -> None:
        self.body = body
        self.status_code = status
        self.headers = {"Content-Type": media_type, "Content-Length": str(len(body))}
        self._closers: list[Callable[[], object]] = []

    @property
    def status(self) -> str:
        """Code and phrase, as Flask spells them."""
        return _PHRASES[self.status_code]

    def call_on_close(self, call: Callable[[], object]) -> None:
        """Have this called when the answer is out, after what was given before."""
        self._closers.append(call)

    def close(self) -> None:
        """The answer is out, or its client has gone."""
        for call in self._closers:
            call()


Answered = Reply | Response
"""What views give: a `Response` where an answer is a stream, or has no body."""


def in_flask(answer: Answered) -> Response:
    """An answer as Flask's `Response`; what is to be called when it has been sent goes along."""
    if isinstance(answer, Response):
        return answer
    response = Response(answer.body, answer.status_code, answer.headers)
    response.call_on_close(answer.close)
    return response
