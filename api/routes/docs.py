"""`/docs`: the OpenAPI document as a page that needs nothing from anywhere else."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from flask import Response

from api.http.caller import Access
from api.http.operations import Answer, Operations
from api.http.request_context import RequestContext

_PAGE = Path(__file__).parent / "docs.html"

docs = Operations("docs", __name__, tag="health")


@docs.operation(
    "GET", "/docs", access=Access.OPEN, answers={200: Answer("A page.", media="text/html")}
)
def docs_page(_here: RequestContext) -> Response:
    """This interface, described for people"""
    page, policy = _page()
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    return response


@cache
def _page() -> tuple[bytes, str]:
    """The page, and a policy that lets exactly its own script and style run."""
    page = _PAGE.read_bytes()
    script = _digest(rb"<script>(.*?)</script>", page)
    style = _digest(rb"<style>(.*?)</style>", page)
    return page, (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(pattern: bytes, page: bytes) -> str:
    match = re.search(pattern, page, re.DOTALL)
    assert match is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(match[1]).digest()).decode()}'"
