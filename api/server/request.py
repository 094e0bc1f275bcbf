"""Requests of a connection: a usual head is read in one look, and any other by gunicorn's own reader.

gunicorn looks at each line of a head some twenty times. What one look takes is a part of what gunicorn
takes, and comes out the same (`tests/api/server/test_request.py`); whatever it does not take, because it is
rare, incomplete or no HTTP at all, goes to gunicorn as it came: to its parser in C, where the extra `fast`
has brought that one. With a usual head that parser is slower than one look.
"""

import re
from typing import Any

from gunicorn.http import body, message, parser

_NAME = "[A-Za-z0-9!#$%&'*+.^`|~-]"
"""Of the characters of a name (RFC 9110, 5.6.2) all but `_`, of which a setting of gunicorn's decides."""
_VALUE = r"[\t\x20-\x7e\x80-\xff]"
# Possessive: a head that does not fit is left as soon as that is seen.
_HEAD = re.compile(
    rf"([A-Z]{{3,20}}) ((/[A-Za-z0-9._~/-]*+)(?:\?([!-\"$-~]*+))?) HTTP/1\.1\r\n"
    rf"((?:{_NAME}++:{_VALUE}*+\r\n)++)\r\n"
)
_FIELD = re.compile(rf"({_NAME}++):({_VALUE}*+)\r\n")
_LENGTH = re.compile("[0-9]{1,18}")


class Body(body.Body):  # type: ignore[misc]
    """A body of a known length, whose reader is a `LengthReader`."""

    def read(self, size: int | None = None) -> bytes:
        """The next `size` bytes; fewer where it ends, all that is left for None."""
        if size != self.reader.length or size > body.MAX_READ_STEP or self.buf.tell():
            return super().read(size)  # type: ignore[no-any-return]
        return self._read_reader(size)  # type: ignore[no-any-return]


class Request(message.Request):  # type: ignore[misc]
    """gunicorn's. `fields` are its headers by name where its head was a usual one, else None."""

    fields: dict[str, str] | None = None

    def _parse_python(self, unreader: Any, buf: bytearray) -> bytes:
        rest = self._rest_of_usual(buf)
        return super()._parse_python(unreader, buf) if rest is None else rest

    def _parse_fast(self, unreader: Any, buf: bytearray) -> bytes:
        rest = self._rest_of_usual(buf)
        return super()._parse_fast(unreader, buf) if rest is None else rest

    def _rest_of_usual(self, buf: bytearray) -> bytes | None:
        """What has come behind a usual head, which is read; None where it is another."""
        head = _HEAD.match(buf.decode("latin-1"))
        if head is None or not self._usual(head):
            return None
        self.method, self.uri, self.path, query, _ = head.groups()
        self.query, self.fragment, self.version = query or "", "", (1, 1)
        return bytes(buf[head.end() :])

    def _usual(self, head: "re.Match[str]") -> bool:
        """Whether nothing in a head concerns a limit or a setting of gunicorn's. Its headers are kept."""
        size = head.end()
        if size > self.limit_request_line or size > self.limit_request_field_size:
            return False
        headers = [(name.upper(), value.strip(" \t")) for name, value in _FIELD.findall(head[5])]
        fields = dict(headers)
        if not len(headers) == len(fields) <= self.limit_request_fields or "EXPECT" in fields:
            return False
        if not self.cfg.secure_scheme_headers.keys().isdisjoint(fields):
            return False
        self.headers, self.fields = headers, fields
        return True

    def set_body_reader(self) -> None:
        """Find out where the body ends."""
        fields = self.fields
        if fields is not None and "TRANSFER-ENCODING" not in fields:
            length = fields.get("CONTENT-LENGTH", "0")
            if _LENGTH.fullmatch(length):
                self.body = Body(body.LengthReader(self.unreader, int(length)))
                return
        super().set_body_reader()
        if isinstance(self.body.reader, body.LengthReader):
            self.body = Body(self.body.reader)


class RequestParser(parser.RequestParser):  # type: ignore[misc]
    """Yields the requests of a connection."""

    mesg_class = Request

    def finish_body(self, *args: Any, **kwargs: Any) -> bool:
        """Read what the application has left of the last request's body; False where that cannot be done."""
        last = self.mesg and self.mesg.body
        if isinstance(last, Body) and not last.reader.length:
            return True
        return super().finish_body(*args, **kwargs)  # type: ignore[no-any-return]
