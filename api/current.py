"""What stands behind Flask's proxies. A proxy costs more than most of what is asked of it, each time.

Functions on the path of every request take the object once, and then ask it.
"""

from typing import Any, cast

import flask
from flask import Flask, Request


def app() -> Flask:
    """The app that handles the current request."""
    return cast(Flask, cast(Any, flask.current_app)._get_current_object())


def request() -> Request:
    """The current request."""
    return cast(Request, cast(Any, flask.request)._get_current_object())


def notes() -> Any:
    """What is noted while the current request lasts: `flask.g`."""
    return cast(Any, flask.g)._get_current_object()
