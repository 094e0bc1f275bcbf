"""The request that this thread or greenlet handles, and what is noted while it lasts.

Flask's proxies find theirs anew at each attribute, which costs more than most of what is asked of them.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING

from flask import Request

from shared.sliding_window import Charge, Standing

if TYPE_CHECKING:
    from api.auth import Client
    from api.observation import Observed
    from api.services import Services


class Handling:
    """One request. `endpoint` is its route as limits count it, `charges` what it is still to be charged,
    `standings` what limits said of it.
    """

    __slots__ = (
        *("charges", "client", "endpoint", "observed", "request", "request_id", "services"),
        "standings",
    )

    def __init__(self, services: "Services", request: Request) -> None:
        self.services = services
        self.request = request
        self.request_id = ""
        self.client: Client | None = None
        self.endpoint = ""
        self.charges: tuple[Charge, ...] = ()
        self.standings: list[Standing] = []
        self.observed: Observed | None = None


_handling: ContextVar[Handling] = ContextVar("handling")


def begin(services: "Services", request: Request) -> Handling:
    """Handle this request from now on, until the next one begins."""
    begun = Handling(services, request)
    _handling.set(begun)
    return begun


def handling() -> Handling:
    """The request that is being handled, with its notes."""
    return _handling.get()


def request() -> Request:
    """What the client sent."""
    return _handling.get().request
