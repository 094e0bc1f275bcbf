"""Changes that administrators make: who made them, when, from where, to what, and how they went."""

import os
import re
import time
from enum import StrEnum

import msgspec

KEPT_SECONDS = 90 * 24 * 3600
MOST_TARGETS, MOST_CHARACTERS = 64, 160
CHANGE_ID = re.compile(r"audit_[0-9a-f]{32}")


class Action(StrEnum):
    """What was done, as `<kind of thing>.<verb>`."""

    KEY_CREATE = "key.create"
    KEY_UPDATE = "key.update"
    KEY_ROTATE = "key.rotate"
    KEY_REVOKE = "key.revoke"
    SESSION_BEGIN = "session.begin"
    SESSION_REFUSE = "session.refuse"
    SESSIONS_END = "sessions.end"
    BREAKER_RESET = "breaker.reset"
    JOB_CANCEL = "job.cancel"
    JOB_DELETE = "job.delete"
    JOB_RETRY = "job.retry"
    JOB_REPLAY = "job.replay"
    DELIVERY_REPLAY = "delivery.replay"
    FILE_CREATE = "file.create"
    FILE_DELETE = "file.delete"
    BATCH_CREATE = "batch.create"
    BATCH_CANCEL = "batch.cancel"
    ENDPOINT_CREATE = "webhook_endpoint.create"
    ENDPOINT_UPDATE = "webhook_endpoint.update"
    ENDPOINT_DELETE = "webhook_endpoint.delete"
    ENDPOINT_ROTATE = "webhook_endpoint.rotate"
    ENDPOINT_TEST = "webhook_endpoint.test"
    SECRET_ROTATE = "webhook_secret.rotate"
    SECRET_REVOKE = "webhook_secret.revoke"


class Kind(StrEnum):
    """What changes are kept apart by: each kind has a bound of its own, so that none pushes another out.

    `ACCESS`: who may do what. `SIGN_IN`, `REFUSED`: sign-ins, and those that were none. `WORK`: all else.
    """

    ACCESS = "access"
    SIGN_IN = "sign-in"
    REFUSED = "refused"
    WORK = "work"


_KINDS = {
    Action.SESSION_BEGIN: Kind.SIGN_IN,
    Action.SESSION_REFUSE: Kind.REFUSED,
    **dict.fromkeys(
        (
            *(Action.KEY_CREATE, Action.KEY_UPDATE, Action.KEY_ROTATE, Action.KEY_REVOKE),
            *(Action.SESSIONS_END, Action.SECRET_ROTATE, Action.SECRET_REVOKE),
        ),
        Kind.ACCESS,
    ),
}


def kind_of(action: Action) -> Kind:
    return _KINDS.get(action, Kind.WORK)


class Via(StrEnum):
    """By which way a change came. `CLI`: by a command that writes to Redis itself."""

    API = "api"
    CONSOLE = "console"
    CLI = "cli"


BEGUN = "begun"
"""The outcome of a change whose process has not said how it went: it goes on, or its process died."""
DONE = "done"


class Change(msgspec.Struct):
    """One change. `tenant` and `key_id` are those of who made it; by the CLI, `user` is the system's account.

    `outcome` is `BEGUN`, `DONE`, or the code of the error with which it was refused. `targets` are the ids of
    what was to change, `note` is what else there is to say, such as the tenant of a new key.
    """

    id: str
    tenant: str
    via: Via
    action: Action
    address: str
    key_id: str = ""
    user: str = ""
    session: str = ""
    agent: str = ""
    request_id: str = ""
    targets: list[str] = []
    note: str = ""
    outcome: str = BEGUN

    @property
    def at(self) -> int:
        """When it began, in ms since 1970."""
        return int(self.id[6:18], 16)

    def of(self, *targets: str, note: str = "") -> None:
        """Say what is changed; texts are cut at `MOST_CHARACTERS`, of many targets the first are kept."""
        fresh = [plain(one) for one in targets if plain(one) not in self.targets]
        self.targets = (self.targets + fresh)[:MOST_TARGETS]
        self.note = plain(note) or self.note


def new_change_id() -> str:
    """`audit_` + 48 bits of time (ms) + 80 random bits in hex: ids sort by age."""
    return f"{first_id_at(int(time.time() * 1000))}{os.urandom(10).hex()}"


def first_id_at(at: int) -> str:
    """What sorts before the ids of all changes from this moment (ms since 1970) on, and after the others'."""
    return f"audit_{min(max(0, at), 2**48 - 1):012x}"


def plain(text: str) -> str:
    """A text on one line, without what a terminal would act on, and not too long."""
    return "".join(c for c in text[:MOST_CHARACTERS] if c.isprintable())
