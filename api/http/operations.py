"""The route table: one decorator registers a Flask route, guards it and describes it for OpenAPI."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from flask import Blueprint, Response, request
from pydantic import BaseModel

from api.http.audit import audited
from api.http.caller import Access
from api.http.errors import to_problem
from api.http.gate import Gate, Reads, View
from api.http.reply import Answered, Reply, in_flask
from api.http.request_context import RequestContext, of
from api.state.limit_plan import Counted
from shared.domain.audit import Action
from shared.store.api_keys import Scope

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
Method = Literal["GET", "POST", "PATCH", "DELETE"]
TABLE = "truthgpt.operations"
"""Where a Flask app has its routes, among its extensions."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the path, the query or a header. `schema` is JSON Schema. The document leaves out what
    is not `published`: another spelling of a name.
    """

    name: str
    place: Literal["path", "query", "header"]
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    example: Any = None
    published: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer. `headers` maps a header's name to what it says, `events` of a stream an event's
    name to its data's schema.
    """

    description: str
    model: type[BaseModel] | None = None
    example: Any = None
    media: str = JSON
    events: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How refusals are told: a problem document made into what these routes' clients expect in its place.

    `translate` does so with a whole answer, `told` with the document. `status_of` a code of `PROBLEMS` is its
    HTTP status here; `model` and `media` describe the answer.
    """

    translate: Callable[[Reply], Reply]
    told: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    status_of: Callable[[str], int]
    model: type[BaseModel]
    media: str = JSON


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. `problems` are codes of shared.domain.errors.PROBLEMS, told in `dialect`, or as
    problem documents.
    """

    name: str
    method: Method
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
    body_media: str
    problems: tuple[str, ...]
    dialect: Dialect | None
    changes: Action | None

    @property
    def endpoint(self) -> str:
        """Method and path, as settings and metrics name it."""
        return f"{self.method} {self.path}"


class Operations(Blueprint):
    """A blueprint whose routes describe themselves. Summary and description are the view's docstring."""

    def __init__(
        self,
        name: str,
        import_name: str,
        *,
        tag: str | None = None,
        dialect: Dialect | None = None,
    ) -> None:
        super().__init__(name, import_name)
        self.dialect = dialect
        self.tag = tag or name
        self.table: list[Operation] = []
        self.views: dict[str, View] = {}
        """By endpoint: what answers a request, guarded."""

    def operation(
        self,
        method: Method,
        path: str,
        *,
        answers: Mapping[int, Answer],
        access: Access = Access.TOKEN,
        scope: Scope | None = None,
        counted: Counted = Counted.OTHER,
        parameters: tuple[Parameter, ...] = (),
        body: type[BaseModel] | None = None,
        body_examples: Mapping[str, Any] | None = None,
        body_media: str = JSON,
        problems: tuple[str, ...] = (),
        reads: Reads | None = None,
        charged_first: bool = False,
        changes: Action | None = None,
    ) -> Callable[[View], View]:
        """Register the decorated view at `path`, spelled as in OpenAPI: `/v1/jobs/{job_id}`.

        `scope` defaults to `jobs:read` for GET and `jobs:write` for the other methods. Rate limits count
        its calls as `counted`, unless anybody may call it: before anything else, or in the call that makes
        a job where the view has `reads`, unless it is `charged_first`. `changes` is what an administrator's
        call is written down as: every route has it that may change something, but those that make a job.
        """
        may_change = method != "GET" and counted is Counted.OTHER and access is Access.TOKEN
        if may_change and changes is None:
            raise TypeError(f"{method} {path} changes something: say what, for the audit log")
        needed = scope or (Scope.JOBS_READ if method == "GET" else Scope.JOBS_WRITE)

        def register(view: View) -> View:
            summary, description = _said(view)
            self.table.append(
                Operation(
                    name=view.__name__,
                    method=method,
                    path=path,
                    summary=summary,
                    description=description,
                    tag=self.tag,
                    access=access,
                    scope=needed,
                    answers=answers,
                    parameters=parameters,
                    body=body,
                    body_examples=body_examples or {},
                    body_media=body_media,
                    problems=problems,
                    dialect=self.dialect,
                    changes=changes,
                )
            )
            query = frozenset(one.name for one in parameters if one.place == "query")
            gate = Gate(access, needed, query, f"{method} {path}", counted, reads, charged_first)
            kept = view if changes is None else audited(changes, view)
            self._add(
                method, path, view.__name__, kept if access is Access.OPEN else gate.guard(kept)
            )
            return view

        return register

    def _add(self, method: str, path: str, name: str, view: View) -> None:
        """Add a route to a view that is guarded already."""
        if self.dialect is not None:
            view = _translated(view, self.dialect.translate)
        self.views[f"{method} {path}"] = view
        rule = path.replace("{", "<").replace("}", ">")
        self.add_url_rule(rule, name, _for_flask(view), methods=[method])


def _said(view: View) -> tuple[str, str]:
    """Summary and description in a view's docstring."""
    summary, _, description = (view.__doc__ or "").partition("\n")
    lines = (line.strip() for line in description.splitlines())
    return summary.strip(), "\n".join(lines).strip()


def _translated(view: View, translate: Callable[[Reply], Reply]) -> View:
    """The view, whose every refusal is told in another dialect than that of problem documents."""

    @functools.wraps(view)
    def translated(here: RequestContext, **path: str) -> Answered:
        try:
            answer = view(here, **path)
        except Exception as error:  # noqa: BLE001 - whatever it is, it has an answer
            answer = to_problem(here, error)
        if isinstance(answer, Reply) and answer.status_code >= 400:
            return translate(answer)
        return answer

    return translated


def _for_flask(view: View) -> Callable[..., Response]:
    @functools.wraps(view)
    def answered(**path: str) -> Response:
        return in_flask(view(of(request.environ), **path))

    return answered
