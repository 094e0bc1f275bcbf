"""The route table: one decorator registers a Flask route, guards it and describes it for OpenAPI."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from flask import Blueprint, Response
from pydantic import BaseModel

from api.http.auth import Unauthorized, authenticate
from api.http.caller import Access
from api.http.errors import to_problem
from api.http.limits import (
    RequestCharges,
    charge_for_error,
    charges_of,
    charges_of_stranger,
    light,
    take_slot,
    with_quota_status,
)
from api.http.reply import Answered, in_flask
from api.http.requests import known_query
from api.state.limit_plan import Counted
from shared.domain.errors import RateLimited
from shared.store.api_keys import Scope

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
TABLE = "truthgpt.operations"
"""Where a Flask app has its routes, among its extensions."""

View = Callable[..., Answered]
Reads = Callable[[], object]
"""Reads and checks a submission. What it returns is the first argument of the view that makes the job; the
second is what is still to be charged, with the job (`RequestCharges`). Until it has returned nothing is."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the path, the query or a header. `schema` is JSON Schema."""

    name: str
    place: Literal["path", "query", "header"]
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    example: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer. `headers` maps a header's name to what it says."""

    description: str
    model: type[BaseModel] | None = None
    example: Any = None
    media: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. `problems` are codes of shared.domain.errors.PROBLEMS."""

    name: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    summary: str
    description: str
    tag: str
    access: Access
    scope: Scope
    answers: Mapping[int, Answer]
    parameters: tuple[Parameter, ...]
    body: type[BaseModel] | None
    body_examples: Mapping[str, Any]
    problems: tuple[str, ...]

    @property
    def endpoint(self) -> str:
        """Method and path, as settings and metrics name it."""
        return f"{self.method} {self.path}"


class Operations(Blueprint):
    """A blueprint whose routes describe themselves. Summary and description are the view's docstring."""

    def __init__(self, name: str, import_name: str, *, tag: str | None = None) -> None:
        super().__init__(name, import_name)
        self.tag = tag or name
        self.table: list[Operation] = []
        self.views: dict[str, View] = {}
        """By endpoint: what answers a request, guarded."""

    def operation(
        self,
        method: Literal["GET", "POST", "DELETE"],
        path: str,
        *,
        answers: Mapping[int, Answer],
        access: Access = Access.TOKEN,
        scope: Scope | None = None,
        counted: Counted = Counted.OTHER,
        parameters: tuple[Parameter, ...] = (),
        body: type[BaseModel] | None = None,
        body_examples: Mapping[str, Any] | None = None,
        problems: tuple[str, ...] = (),
        reads: Reads | None = None,
        charged_first: bool = False,
    ) -> Callable[[View], View]:
        """Register the decorated view at `path`, spelled as in OpenAPI: `/v1/jobs/{job_id}`.

        `scope` defaults to `jobs:read` for GET and `jobs:write` for the other methods. Rate limits count
        its calls as `counted`, unless anybody may call it: before anything else, or in the call that makes
        a job where the view has `reads`, unless it is `charged_first`.
        """
        needed = scope or (Scope.JOBS_READ if method == "GET" else Scope.JOBS_WRITE)

        def register(view: View) -> View:
            summary, _, description = (view.__doc__ or "").partition("\n")
            self.table.append(
                Operation(
                    name=view.__name__,
                    method=method,
                    path=path,
                    summary=summary.strip(),
                    description="\n".join(
                        line.strip() for line in description.splitlines()
                    ).strip(),
                    tag=self.tag,
                    access=access,
                    scope=needed,
                    answers=answers,
                    parameters=parameters,
                    body=body,
                    body_examples=body_examples or {},
                    problems=problems,
                )
            )
            query = frozenset(one.name for one in parameters if one.place == "query")
            rule = path.replace("{", "<").replace("}", ">")
            gate = _Gate(access, needed, query, f"{method} {path}", counted, reads, charged_first)
            guarded = view if access is Access.OPEN else gate.guard(view)
            self.views[f"{method} {path}"] = guarded
            self.add_url_rule(rule, view.__name__, _for_flask(guarded), methods=[method])
            return view

        return register


def _for_flask(view: View) -> Callable[..., Response]:
    @functools.wraps(view)
    def answered(**path: str) -> Response:
        return in_flask(view(**path))

    return answered


@dataclass(frozen=True, slots=True)
class _Gate:
    """What a request passes before its view: token, scope, rate limits, a slot, its query's names."""

    access: Access
    scope: Scope
    query: frozenset[str]
    endpoint: str
    counted: Counted
    reads: Reads | None
    charged_first: bool

    def guard(self, view: View) -> View:
        """The view behind this gate. What is answered says how the client stands with its rate limits."""

        @functools.wraps(view)
        def guarded(**path: str) -> Answered:
            try:
                authenticate(self.access, self.scope)
            except Unauthorized as error:
                return _problem(error, charges_of_stranger(self.endpoint))
            charges = charges_of(self.endpoint, self.counted)
            if self.reads is None or self.charged_first or not light():
                charges = charges.commit()
                if charges.refused is not None:
                    return _problem(charges.refusal(), charges)
            return self._in_a_slot(view, charges, path)

        return guarded

    def _in_a_slot(self, view: View, charges: RequestCharges, path: dict[str, str]) -> Answered:
        try:
            slot = take_slot(charges)
        except RateLimited as error:
            return _problem(error, charges)
        try:
            answer = self._answer(view, charges, path)
        except BaseException:
            slot.leave()
            raise
        # A stream is open until its last byte is out or its reader has gone.
        answer.call_on_close(slot.leave)
        return answer

    def _answer(self, view: View, charges: RequestCharges, path: dict[str, str]) -> Answered:
        try:
            known_query(self.query)
            if self.reads is None:
                return with_quota_status(view(**path), charges)
            asked = self.reads()
        except Exception as error:  # noqa: BLE001 - whatever it is, it has an answer and was charged
            return _problem(error, charges)
        return view(asked, charges)


def _problem(error: Exception, charges: RequestCharges) -> Answered:
    """The answer to a request that failed before its job was made, or makes none: it is charged too."""
    error, charges = charge_for_error(error, charges)
    return with_quota_status(to_problem(error), charges)
