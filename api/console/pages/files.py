"""Files: uploaded, listed, downloaded, deleted."""

import functools

from flask import Response

from api.console.blueprint import console
from api.console.guard import require_csrf_field
from api.console.visit import ROOT, Visit
from api.openai.files import download, remove
from api.openai.uploads import UPLOADABLE, room, take_in
from shared.domain.audit import Action

PAGE = 50
LIST = f"{ROOT}/batches/files"


@console.page("GET", "/batches/files")
def files(visit: Visit) -> Response:
    """The tenant's files, newest first, and how much room is left."""
    return _list(visit)


@console.page("POST", "/batches/files", changes=Action.FILE_CREATE, uploads=True)
def upload_file(visit: Visit) -> Response:
    """Store a file, as `POST /v1/files` does. The CSRF token comes before the file: in a header where the
    page's script sends the form, else in its first field.
    """
    take_in(visit.here, functools.partial(require_csrf_field, visit))
    return _list(visit) if visit.asks_part else visit.moved(LIST)


@console.page("GET", "/batches/files/<file_id>/content")
def file_content(visit: Visit, file_id: str) -> Response:
    """The bytes of a file, to be kept."""
    return download(visit.here, file_id)


@console.page("POST", "/batches/files/<file_id>/delete", changes=Action.FILE_DELETE)
def delete_file(visit: Visit, file_id: str) -> Response:
    """Delete a file."""
    remove(visit.here, file_id)
    return _list(visit) if visit.asks_part else visit.moved(LIST)


def _list(visit: Visit) -> Response:
    services, tenant = visit.services, visit.caller.tenant
    after = visit.request.args.get("after")
    found, more = services.files.listing(tenant, limit=PAGE, after=after)
    return visit.page(
        "_file_rows.html" if visit.asks_part else "files.html",
        files=found,
        after=found[-1].id if more else None,
        first=after is None,
        held=services.files.held(tenant),
        room=room(visit.here),
        most=int(services.settings.file_max_bytes),
        purposes=UPLOADABLE,
    )
