"""OpenAI's files: uploads that go to the storage as they come, and what is known of them."""

import re
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from flask import Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from api.http import requests
from api.http.answers import document
from api.http.multipart import Upload
from api.http.operations import Answer, Dialect, Operations, Parameter
from api.http.reply import Reply
from api.http.request_context import RequestContext
from api.openai import examples
from api.openai.errors import status_of, to_openai, told
from api.openai.schemas import DeletedFile, FileList, FileObject, OpenAIProblem
from shared.domain.audit import Action
from shared.domain.errors import InvalidRequest, TryLater
from shared.domain.files import MAX_NAME, File, Purpose, new_file_id
from shared.domain.requests.request_faults import invalid
from shared.files import CHUNK, Storage, chunks
from shared.store.files import PAGE, Room

MOST_LISTED = 10_000
LEAST_SECONDS, MOST_SECONDS = 3600, 30 * 24 * 3600
_UNSAFE = re.compile(r"[^A-Za-z0-9._ -]")

files = Operations(
    "openai_files",
    __name__,
    tag="openai",
    dialect=Dialect(to_openai, told, status_of, OpenAIProblem),
)

FILE_ID = Parameter(
    "file_id",
    "path",
    "The file's `id`.",
    {"type": "string", "pattern": "^file-[0-9a-f]{32}$"},
    examples.FILE_ID,
)


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


@files.operation(
    "POST",
    "/v1/files",
    changes=Action.FILE_CREATE,
    body=FileUpload,
    body_media="multipart/form-data",
    body_examples=examples.UPLOADS,
    answers={200: Answer("The file.", FileObject, examples.FILE)},
    problems=(
        *("unsupported_media_type", "body_too_large", "body_timeout", "invalid_request"),
        *("file_quota_exceeded", "file_storage_full", "file_storage_unavailable", "uploads_busy"),
    ),
)
def upload_file(here: RequestContext) -> Reply:
    """Upload a file

    It is stored as it comes, and is there once this answers. Its content is not looked at.
    """
    return document(_told(take_in(here)))


def take_in(here: RequestContext) -> File:
    """Store the file of a form. Raises `JobsError`."""
    services, settings = here.services, here.services.settings
    claimed = here.environ.get("CONTENT_LENGTH") or ""
    size = int(claimed) if claimed.isdigit() and len(claimed) < 20 else 0
    services.files.require_room(here.caller.tenant, min(size, settings.file_max_bytes), room(here))
    with services.uploads.place():
        return _stored(here)


def _stored(here: RequestContext) -> File:
    """The file of a form, stored and written down. Raises `JobsError`."""
    services, settings = here.services, here.services.settings
    now, file_id = int(time.time()), new_file_id()
    file = File(file_id, here.caller.tenant, "", "", 0, now, now)
    content = _Content(services.storage, file.place)
    try:
        form = Upload("file", settings.file_max_bytes, content.write).read(
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


@files.operation(
    "GET",
    "/v1/files",
    parameters=(
        Parameter("purpose", "query", "Only files of this purpose.", example="batch"),
        Parameter(
            "limit",
            "query",
            f"How many at most; more than {PAGE} are told on several pages.",
            {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": PAGE},
            PAGE,
        ),
        Parameter(
            "order",
            "query",
            "By creation: `desc`, the newest first, or `asc`.",
            {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
        ),
        Parameter(
            "after",
            "query",
            "The id of the last file of the page before.",
            {"type": "string", "pattern": "^file-[0-9a-f]{32}$"},
        ),
    ),
    answers={200: Answer("A page of files.", FileList, examples.FILES)},
    problems=("invalid_parameter", "invalid_cursor"),
)
def list_files(here: RequestContext) -> Reply:
    """List files"""
    query = here.request.args
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' must be asc or desc.", code="invalid_parameter")
    found, more = here.services.files.listing(
        here.caller.tenant,
        purpose=query.get("purpose"),
        limit=min(PAGE, requests.count(here, "limit", default=PAGE, maximum=MOST_LISTED)),
        after=query.get("after"),
        oldest_first=order == "asc",
    )
    return document(page([_told(file) for file in found], more))


@files.operation(
    "GET",
    "/v1/files/{file_id}",
    parameters=(FILE_ID,),
    answers={200: Answer("The file.", FileObject, examples.FILE)},
    problems=("file_not_found",),
)
def get_file(here: RequestContext, file_id: str) -> Reply:
    """Get what is known of a file"""
    return document(_told(here.services.files.get(file_id, here.caller.tenant)))


@files.operation(
    "DELETE",
    "/v1/files/{file_id}",
    changes=Action.FILE_DELETE,
    parameters=(FILE_ID,),
    answers={200: Answer("It is gone.", DeletedFile, examples.DELETED_FILE)},
    problems=("file_not_found", "file_in_use", "file_storage_unavailable"),
)
def delete_file(here: RequestContext, file_id: str) -> Reply:
    """Delete a file"""
    remove(here, file_id)
    return document({"id": file_id, "object": "file", "deleted": True})


def remove(here: RequestContext, file_id: str) -> None:
    """Delete a file of the caller's tenant. Raises `JobsError`."""
    services = here.services
    file = services.files.get(file_id, here.caller.tenant)
    services.files.delete(file)
    services.storage.delete(file.place)


@files.operation(
    "GET",
    "/v1/files/{file_id}/content",
    parameters=(FILE_ID,),
    answers={
        200: Answer(
            "The bytes that were uploaded.",
            media="application/octet-stream",
            example="…",
            headers={"Content-Disposition": "The name of the file."},
        )
    },
    problems=("file_not_found", "file_storage_unavailable"),
)
def get_file_content(here: RequestContext, file_id: str) -> Response:
    """Get the content of a file"""
    return download(here, file_id)


def download(here: RequestContext, file_id: str) -> Response:
    """The bytes of a file of the caller's tenant, as a file to be kept. Raises `JobsError`."""
    file = here.services.files.get(file_id, here.caller.tenant)
    content = chunks(here.services.storage, file.place, 0, file.bytes)
    # Before the head of the answer: a storage that fails then still has a status.
    first = next(content, b"")
    response = Response(_behind(first, content), mimetype="application/octet-stream")
    response.headers["Content-Length"] = str(file.bytes)
    response.headers["Content-Disposition"] = f'attachment; filename="{_ascii(file.filename)}"'
    return response


def _behind(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def room(here: RequestContext) -> Room:
    """How much the files of the caller's tenant may take, and all together."""
    settings = here.services.settings
    return Room(
        int(settings.file_tenant_bytes), settings.file_tenant_files, int(settings.file_total_bytes)
    )


def page(rows: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    """A page of OpenAI's lists."""
    return {
        "object": "list",
        "data": rows,
        "first_id": rows[0]["id"] if rows else None,
        "last_id": rows[-1]["id"] if rows else None,
        "has_more": more,
    }


def _told(file: File) -> dict[str, Any]:
    """A file as OpenAI's clients see it. It was checked by nobody, so its status never is `error`."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created,
        "expires_at": file.expires,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def _plain(filename: str) -> str:
    """The last part of a path, without what a terminal would act on."""
    last = re.split(r"[/\\]", filename)[-1]
    return "".join(c for c in last if c.isprintable())[:MAX_NAME] or "file"


def _ascii(filename: str) -> str:
    return _UNSAFE.sub("_", filename)


def _fault(name: str, message: str, kind: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name}: {message}", errors=[{"loc": [name], "msg": message, "type": kind}]
    )
