"""What stands behind Flask's proxies. A proxy costs more than most of what is asked of it, each time.

Functions on the path of every request take the object once, and then ask it.
"""

from typing import Any

import flask
from flask import Flask, Request

_app: Any = flask.current_app
_request: Any = flask.request
_notes: Any = flask.g


def app() -> Flask:
    """The app that handles the current request."""
    found: Flask = _app._get_current_object()
    return found


def request() -> Request:
    """The current request."""
    found: Request = _request._get_current_object()
    return found


def notes() -> Any:
    """What is noted while the current request lasts: `flask.g`."""
    return _notes._get_current_object()
