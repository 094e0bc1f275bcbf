"""`/problems/<code>`: what an error's `type` names, for people who follow it."""

import re
from html import escape

from flask import Response
from werkzeug.exceptions import NotFound

from api.http.caller import Access
from api.http.operations import Answer, Operations, Parameter
from api.http.request_context import RequestContext
from shared.domain.advice import ADVICE
from shared.domain.errors import PROBLEMS

problems = Operations("problems", __name__, tag="health")


@problems.operation(
    "GET",
    "/problems/{slug}",
    access=Access.OPEN,
    parameters=(
        Parameter(
            "slug",
            "path",
            "The last part of a problem's `type`.",
            {"type": "string", "enum": [code.replace("_", "-") for code in PROBLEMS]},
            "invalid-request",
        ),
    ),
    answers={
        200: Answer(
            "What the problem means and what to do.", media="text/html", example="<!doctype html>…"
        )
    },
    problems=("not_found",),
)
def problem_page(_here: RequestContext, slug: str) -> Response:
    """What a problem means"""
    code = slug.replace("-", "_")
    if code not in PROBLEMS or "_" in slug:
        raise NotFound
    return Response(_page(code), content_type="text/html; charset=utf-8")


def _page(code: str) -> str:
    problem = PROBLEMS[code]
    again = "may succeed later unchanged" if problem.retryable else "will fail again unchanged"
    advice = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(ADVICE[code], quote=False))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{code}</title><h1>{escape(problem.title)}</h1>"
        f"<p><code>{code}</code>, status {problem.status}. The same request {again}.</p>"
        f'<p>{advice}</p><p><a href="/docs">All calls</a></p>'
    )
