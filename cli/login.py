"""Finds out which server the commands talk to, and with which token."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from client import Client

DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT = 30.0
RETRY_FOR = 3.0


@dataclass(frozen=True, slots=True)
class Login:
    """`explicit`: the user named the server, so no other one will do."""

    url: str
    token: str | None
    explicit: bool

    def client(self, *, timeout: float = TIMEOUT, retry_for: float = RETRY_FOR) -> "Client":
        """A client; without a token of its own it reads the one that a local server stored.

        `timeout` and `retry_for` are the client's, in seconds.
        """
        from client import Client

        token = self.token or _stored_token()
        return Client(self.url, token, timeout=timeout, retry_for=retry_for)


pass_login = click.make_pass_decorator(Login)


def _stored_token() -> str | None:
    from shared.settings import load_settings, token_file

    path = token_file(load_settings())
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return None
