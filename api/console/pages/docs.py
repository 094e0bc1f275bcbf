"""`/docs`: the OpenAPI document for people, with forms that call the API by the session of the console."""

from flask import Response

from api.console.guard import protected
from api.console.visit import Visit
from api.http.caller import Access
from api.http.operations import Answer, Operations
from api.http.request_context import RequestContext

docs = Operations("docs", __name__, tag="health")


@docs.operation(
    "GET", "/docs", access=Access.OPEN, answers={200: Answer("A page.", media="text/html")}
)
def docs_page(here: RequestContext) -> Response:
    """This interface, described for people"""
    return protected(Visit(here).page("docs.html"))
