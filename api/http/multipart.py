"""A multipart form of which one part is a file, read in pieces: the file is handed on as it comes."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from api.http.request_context import RequestContext
from api.http.requests import body_pieces, too_large
from shared.domain.errors import InvalidRequest, JobsError

PIECE = 64 * 1024
MAX_FIELDS = 16
MAX_FIELD_BYTES = 4096
OVERHEAD = 64 * 1024
"""Bytes that a form may have beside its file."""


Opens = Callable[[dict[str, str]], None]


class Form(NamedTuple):
    """The fields by name, and the name and size of the file; a name of None: there was none."""

    fields: dict[str, str]
    filename: str | None
    bytes: int


class Upload:
    """Reads a form whose file is the part `name`, of at most `most` bytes, into `write`.

    `opens` is called once, before the first byte of the file is written, with the fields that came before
    it: it may take some out, and refuse the file by an error.
    """

    def __init__(
        self,
        name: str,
        most: int,
        write: Callable[[bytes], None],
        opens: Opens = lambda _: None,
    ) -> None:
        self._name = name
        self._most = most
        self._write = write
        self._opens = opens
        self._fields: dict[str, str] = {}
        self._filename: str | None = None
        self._bytes = 0

    def read(self, here: RequestContext, seconds: float) -> Form:
        """The form, whose body has so many seconds to come. Raises `JobsError`."""
        media, options = parse_options_header(here.environ.get("CONTENT_TYPE", ""))
        boundary = options.get("boundary", "")
        if media != "multipart/form-data" or not 1 <= len(boundary) <= 200:
            raise JobsError(
                "Send the file as 'Content-Type: multipart/form-data' with its boundary.",
                code="unsupported_media_type",
            )
        decoder = MultipartDecoder(
            boundary.encode("latin-1", "replace"), 4 * PIECE, max_parts=MAX_FIELDS
        )
        pieces = body_pieces(here, self._most + OVERHEAD, PIECE, seconds)
        try:
            self._take(decoder, pieces)
        except RequestEntityTooLarge:
            raise InvalidRequest(
                f"The form has a part whose head is too long, or more than {MAX_FIELDS} parts."
            ) from None
        except (ValueError, AttributeError, UnicodeDecodeError):
            raise InvalidRequest("The body is not a whole form of multipart/form-data.") from None
        return Form(self._fields, self._filename, self._bytes)

    def _take(self, decoder: MultipartDecoder, pieces: Iterator[bytes]) -> None:
        part: Field | File | None = None
        said = bytearray()
        while True:
            event = decoder.next_event()
            match event:
                case NeedData():
                    decoder.receive_data(next(pieces, None))
                case Epilogue():
                    return
                case Field() | File():
                    part, said = event, bytearray()
                    if part.name == self._name and isinstance(part, File):
                        self._begin(part)
                case Data() if part is not None and self._is_file(part):
                    self._bytes += len(event.data)
                    if self._bytes > self._most:
                        raise too_large(self._most)
                    self._write(event.data)
                case Data() if part is not None:
                    said += event.data
                    if len(said) > MAX_FIELD_BYTES:
                        raise InvalidRequest(f"The field {part.name!r} is too long.")
                    if not event.more_data:
                        self._add(part, bytes(said))

    def _is_file(self, part: Field | File) -> bool:
        return isinstance(part, File) and part.name == self._name

    def _begin(self, part: File) -> None:
        if self._filename is not None:
            raise InvalidRequest(f"The form has the file {self._name!r} twice. Send one.")
        self._opens(self._fields)
        self._filename = part.filename

    def _add(self, part: Field | File, said: bytes) -> None:
        name = str(part.name)
        if isinstance(part, File):
            raise InvalidRequest(
                f"The form's file must be named {self._name!r}, not {name[:40]!r}."
            )
        if name in self._fields:
            raise InvalidRequest(f"The form has the field {name[:40]!r} twice.")
        self._fields[name] = said.decode("utf-8")
