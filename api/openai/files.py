"""OpenAI's files: how they are uploaded, listed, read and deleted."""

import re
from collections.abc import Iterator
from typing import Any

from flask import Response

from api.http import requests
from api.http.answers import document
from api.http.operations import Answer, Dialect, Operations, Parameter
from api.http.reply import Reply
from api.http.request_context import RequestContext
from api.openai import examples
from api.openai.errors import status_of, to_openai, told
from api.openai.schemas import DeletedFile, FileList, FileObject, OpenAIProblem
from api.openai.uploads import FileUpload, take_in
from shared.domain.audit import Action
from shared.domain.errors import InvalidRequest
from shared.domain.files import File
from shared.files import chunks
from shared.store.files import PAGE

MOST_LISTED = 10_000
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


def _ascii(filename: str) -> str:
    return _UNSAFE.sub("_", filename)
