"""Changes by administrators, written down as they are made: the seam of all routes that change something."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from api.http.auth import SIGNED_IN
from api.http.limits import address_of
from api.http.reply import Answered
from api.http.request_context import RequestContext
from shared.domain.audit import Action, Change, Via, new_change_id, plain
from shared.store.api_keys import Scope

View = Callable[..., Answered]
_T = TypeVar("_T", bound=Answered)


def audited(action: Action, view: View) -> View:
    """The view of a known caller, recorded when that is an administrator.

    The targets of the change are the parts of its path, and what the view adds (`here.changes`).
    """

    @functools.wraps(view)
    def recorded(here: RequestContext, **path: str) -> Answered:
        via = Via.CONSOLE if SIGNED_IN in here.environ else Via.API
        with recording(here, action, path, via):
            return judged(here, view(here, **path))

    return recorded


@contextmanager
def recording(
    here: RequestContext,
    action: Action,
    path: Mapping[str, str],
    via: Via,
    session: str = "",
) -> Iterator[None]:
    """While the caller, if that is an administrator, makes a change. Raises `StoreUnavailable` before it is
    made where it cannot be written down.
    """
    if not here.caller.may(Scope.ADMIN):
        yield
        return
    caller = here.caller
    change = change_by(here, action, via, caller.tenant, caller.key_id)
    change.session = session
    change.of(*path.values())
    with here.services.audit.record(change):
        here.change = change
        yield


def judged(here: RequestContext, answer: _T) -> _T:
    """The answer of a change; of one that refuses, without an error raised, its status is the outcome."""
    if answer.status_code >= 400 and here.change is not None:
        here.change.outcome = f"http_{answer.status_code}"
    return answer


def change_by(
    here: RequestContext, action: Action, via: Via, tenant: str, key_id: str = ""
) -> Change:
    """What this request changes, by a key of this tenant."""
    return Change(
        id=new_change_id(),
        tenant=tenant,
        via=via,
        action=action,
        address=address_of(here),
        key_id=key_id,
        agent=plain(here.environ.get("HTTP_USER_AGENT", "")),
        request_id=here.request_id,
    )
