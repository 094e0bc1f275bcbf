"""Stores the files of an output, and puts references in their places, before Redis gets it."""

import hashlib
import logging
import time
from typing import Any

import msgspec
from msgspec.structs import replace

from shared.domain.errors import JobsError
from shared.domain.file_outputs import PARAM, FileContent, contents
from shared.domain.files import File, place_of
from shared.domain.records import Claim
from shared.files import Storage
from shared.store.files import Files, Room
from workers.host_protocol.messages import Outcome

_MENTIONED = f'"{PARAM}"'.encode()
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)


class OutputFiles:
    """Files of jobs' tenants, which have `room` and are kept for `seconds`. Safe to share between threads."""

    def __init__(self, files: Files, storage: Storage, room: Room, seconds: int) -> None:
        self._files = files
        self._storage = storage
        self._room = room
        self._seconds = seconds

    def stored(self, claim: Claim, outcome: Outcome) -> Outcome:
        """The outcome with its files stored, each in its tenant's name.

        Where one cannot be stored now, the attempt has failed, with a code that is tried again.
        """
        if outcome.kind != "finished" or not _wanted(claim):
            return outcome
        output, made = _decode(outcome.output), list[File]()
        try:
            for member, content in list(contents(output)):
                made.append(self._file(claim, len(made), content))
                self._store(made[-1], content)
                member["file"] = made[-1].id
        except JobsError as error:
            self._remove(made)
            message = f"A file of the output cannot be stored: {error.detail}"
            return Outcome(
                *(outcome.ticket, "failed"),
                code=error.code,
                message=message,
                device_seconds=outcome.device_seconds,
            )
        return replace(outcome, output=_encode(output))

    def _file(self, claim: Claim, number: int, content: FileContent) -> File:
        """The n-th file of an attempt. Another attempt's has another id, for its content may be another."""
        born, now = claim.id.removeprefix("job_")[:12], int(time.time())
        digest = hashlib.sha256(f"{claim.id} {claim.attempt} {number}".encode()).hexdigest()
        size = len(content.data)
        return File(
            id=f"file-{born}{digest[:20]}",
            tenant=claim.tenant,
            purpose="user_data",
            filename=content.name,
            bytes=size,
            created=now,
            expires=now + self._seconds,
        )

    def _store(self, file: File, content: FileContent) -> None:
        writer = self._storage.create(file.place)
        try:
            writer.write(content.data)
            writer.publish()
        finally:
            writer.discard()
        self._files.create(file, self._room)

    def _remove(self, made: list[File]) -> None:
        """Give back what an attempt has stored that fails. What stays expires like any file."""
        for file in made:
            try:
                self._files.forget(file.id, file.tenant, file.bytes)
                self._storage.delete(place_of(file.id))
            except JobsError as error:
                _log.warning("%s of a failed attempt stays until it expires: %s", file.id, error)


def _wanted(claim: Claim) -> bool:
    """Whether a job asks for files; few do, and a request is decoded for these alone."""
    if _MENTIONED not in claim.request:
        return False
    request: dict[str, Any] = _decode(claim.request)
    return request["params"].get(PARAM) is True
