"""Files that a job's input refers to: they must be its tenant's, and small enough to be held in memory."""

from typing import Any

from api.http.request_context import RequestContext
from shared.domain.errors import InvalidRequest
from shared.domain.file_inputs import ENGINES, MAX_BYTES, references
from shared.domain.models.catalog import ModelSpec


def check_input_files(here: RequestContext, spec: ModelSpec, content: Any) -> None:
    """Raises `FileNotFound`, also for a file of somebody else, and `InvalidRequest` for a large one."""
    if spec.engine not in ENGINES:
        return
    for name, file_id in references(content):
        file = here.services.files.get(file_id, here.caller.tenant)
        if file.bytes > MAX_BYTES:
            said = f"the file has {file.bytes} bytes; at most {MAX_BYTES} are taken"
            raise InvalidRequest(
                f"input.{name}: {said}",
                errors=[{"loc": ["input", name], "msg": said, "type": "value_error"}],
            )
