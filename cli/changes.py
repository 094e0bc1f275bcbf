"""Changes that commands make in the server's Redis itself, written down in its audit log."""

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis

from shared.domain.audit import Action, Change, Via, new_change_id, plain
from shared.settings import Settings
from shared.store.audit import AuditLog
from shared.store.jobs import JobStore

TENANT = "default"
"""Whoever runs such a command has the server's Redis and secret: this is its own administrator."""


@contextmanager
def recorded(
    redis: Redis, settings: Settings, action: Action, *targets: str, note: str = ""
) -> Iterator[Change]:
    """While such a change is made. Raises `StoreUnavailable` before it is where it cannot be written down."""
    change = Change(
        id=new_change_id(),
        tenant=TENANT,
        via=Via.CLI,
        action=action,
        address=plain(socket.gethostname()),
        user=_account(),
    )
    change.of(*targets, note=note)
    with AuditLog(JobStore(redis, settings.key_prefix)).record(change):
        yield change


def _account() -> str:
    try:
        return plain(getpass.getuser())
    except (KeyError, OSError):
        # A container's user often has no name.
        return f"uid {os.getuid()}"
