"""A file on its way from a form to the storage: the form, the room that is left, the content in pieces."""

import re
import time
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from api.http.multipart import Opens, Upload
from api.http.request_context import RequestContext
from shared.domain.errors import InvalidRequest, TryLater
from shared.domain.files import MAX_NAME, File, Purpose, new_file_id
from shared.domain.requests.request_faults import invalid
from shared.files import CHUNK, Storage
from shared.store.files import Room

LEAST_SECONDS, MOST_SECONDS = 3600, 30 * 24 * 3600
"""How long a file may be kept."""
ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"
"""Members of a form, which has no null: each is there with the other, or not at all."""


OURS = "batch_output"
UPLOADABLE = [purpose for purpose in get_args(Purpose) if purpose != OURS]


def _uploadable(purpose: str) -> str:
    if purpose == OURS:
        raise ValueError("this purpose is of files that the server writes")
    return purpose


class FileUpload(BaseModel):
    """The form of `POST /v1/files`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"dependentRequired": {ANCHOR: [SECONDS], SECONDS: [ANCHOR]}},
    )

    purpose: Annotated[
        Purpose, AfterValidator(_uploadable), WithJsonSchema({"type": "string", "enum": UPLOADABLE})
    ]
    anchor: Annotated[
        Literal["created_at"] | None, WithJsonSchema({"type": "string", "const": "created_at"})
    ] = Field(default=None, alias=ANCHOR)
    seconds: Annotated[
        int | None,
        WithJsonSchema({"type": "integer", "minimum": LEAST_SECONDS, "maximum": MOST_SECONDS}),
    ] = Field(
        default=None,
        alias=SECONDS,
        ge=LEAST_SECONDS,
        le=MOST_SECONDS,
        description="Left out: the server's own time, `FILE_RETENTION_SEC`.",
    )
    file: bytes = Field(json_schema_extra={"format": "binary"})


def take_in(here: RequestContext, opens: Opens = lambda _: None) -> File:
    """Store the file of a form; `opens` may refuse it, as in `Upload`. Raises `JobsError`."""
    services, settings = here.services, here.services.settings
    claimed = here.environ.get("CONTENT_LENGTH") or ""
    size = int(claimed) if claimed.isdigit() and len(claimed) < 20 else 0
    services.files.require_room(here.caller.tenant, min(size, settings.file_max_bytes), room(here))
    with services.uploads.place():
        return _stored(here, opens)


def _stored(here: RequestContext, opens: Opens) -> File:
    """The file of a form, stored and written down. Raises `JobsError`."""
    services, settings = here.services, here.services.settings
    now, file_id = int(time.time()), new_file_id()
    file = File(file_id, here.caller.tenant, "", "", 0, now, now)
    content = _Content(services.storage, file.place)
    try:
        form = Upload("file", settings.file_max_bytes, content.write, opens).read(
            here, settings.file_timeout
        )
        if form.filename is None:
            raise _fault("file", "Field required", "missing")
        try:
            said = FileUpload.model_validate({**form.fields, "file": b""})
        except ValidationError as error:
            raise invalid(error) from None
        if (said.anchor is None) != (said.seconds is None):
            raise _fault("expires_after", "needs both anchor and seconds", "value_error")
        file = File(
            id=file_id,
            tenant=here.caller.tenant,
            purpose=said.purpose,
            filename=_plain(form.filename),
            bytes=form.bytes,
            created=now,
            expires=now + (said.seconds or settings.file_retention),
        )
        content.publish()
    except BaseException:
        content.discard()
        raise
    here.changes(file.id, note=file.filename)
    try:
        services.files.create(file, room(here))
    except TryLater:
        # Where Redis did not say what became of it, a sweep will find the content or its record.
        services.storage.delete(file.place)
        raise
    return file


class _Content:
    """The content of a file on its way, in pieces of `CHUNK`. Nothing is made before the first one."""

    def __init__(self, storage: Storage, place: str) -> None:
        self._storage = storage
        self._place = place
        self._writer: Any = None
        self._held = bytearray()

    def write(self, data: bytes) -> None:
        self._held += data
        if len(self._held) >= CHUNK:
            self._flush()

    def publish(self) -> None:
        self._flush()
        self._writer.publish()

    def discard(self) -> None:
        if self._writer is not None:
            self._writer.discard()

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = self._storage.create(self._place)
        if self._held:
            self._writer.write(bytes(self._held))
            self._held.clear()


def room(here: RequestContext) -> Room:
    """How much the files of the caller's tenant may take, and all together."""
    settings = here.services.settings
    return Room(
        int(settings.file_tenant_bytes), settings.file_tenant_files, int(settings.file_total_bytes)
    )


def _plain(filename: str) -> str:
    """The last part of a path, without what a terminal would act on."""
    last = re.split(r"[/\\]", filename)[-1]
    return "".join(c for c in last if c.isprintable())[:MAX_NAME] or "file"


def _fault(name: str, message: str, kind: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name}: {message}", errors=[{"loc": [name], "msg": message, "type": kind}]
    )
