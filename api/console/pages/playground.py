"""The playground: a form that makes an ordinary job, and shows it run."""

from typing import Any

import msgspec
from flask import Response

from api.console.blueprint import console
from api.console.shown import Output, Row, error_of, nearest, usage_of
from api.console.visit import ROOT, Visit
from api.http.requests import Sent
from api.intake.acceptance import Rejected, submit
from api.intake.submission import submission_of
from shared.domain.errors import InvalidRequest
from shared.domain.models.catalog import ModelSpec
from shared.domain.requests.params import ENGINES
from shared.store.api_keys import Scope

NUMBERS = {"max_new_tokens": int, "temperature": float, "top_p": float, "seed": int}
"""Parameters of texts that the form has a field for."""


@console.page("GET", "/playground", scope=Scope.JOBS_WRITE)
def playground(visit: Visit) -> Response:
    """The form, for the model that was asked for or the first."""
    catalog = visit.services.catalog
    asked = visit.request.args.get("model")
    spec = catalog.get(asked) if asked else next(iter(catalog), None)
    status = visit.services.store.status(spec.name) if spec is not None else None
    return visit.page(
        "playground.html",
        spec=spec,
        kind=kind_of(spec) if spec is not None else "",
        chats=spec is not None and visit.request.args.get("as") == "chat",
        models=list(catalog),
        offline=status is not None and not status.workers,
    )


@console.page("POST", "/playground", submits="POST /v1/jobs")
def run(visit: Visit) -> Response:
    """Make the job, by the way that `POST /v1/jobs` goes, and show it."""
    assert visit.charges is not None
    spec = visit.services.catalog.get(visit.form.get("model", ""))
    submission = submission_of(visit.here, Sent(None, False, body_of(spec, visit.form)), "")
    accepted = submit(visit.here, submission, visit.charges, 0)
    visit.charges = accepted.charges
    if isinstance(accepted, Rejected):
        raise accepted.error
    if not visit.asks_part:
        return visit.moved(f"{ROOT}/jobs/{accepted.record.id}")
    return visit.page("_run.html", job_id=accepted.record.id, streams=kind_of(spec) == "text")


@console.page("GET", "/playground/runs/<job_id>", scope=Scope.JOBS_WRITE)
def run_state(visit: Visit, job_id: str) -> Response:
    """How a run stands, below its text."""
    record = visit.services.store.get(job_id, visit.caller.tenant)
    spec = visit.services.catalog.get(record.fields["model"])
    return visit.page(
        "_run_state.html",
        row=Row.of(record),
        usage=usage_of(record),
        error=error_of(record),
        output=Output.of(record),
        pairs=nearest(record),
        streams=kind_of(spec) == "text",
    )


def kind_of(spec: ModelSpec) -> str:
    """Which form a model has: `text`, `texts` (one a line), `ranking`, `json`."""
    engine = ENGINES.get(spec.engine)
    if engine is not None and engine.streams_text:
        return "text"
    return {"embedding": "texts", "ranking": "ranking"}.get(spec.engine, "json")


def body_of(spec: ModelSpec, form: dict[str, str]) -> dict[str, Any]:
    """The body of `POST /v1/jobs` that a form stands for. Raises `InvalidRequest`."""
    body: dict[str, Any] = {"model": spec.name}
    kind = kind_of(spec)
    if kind == "text" and form.get("as") == "chat":
        body["input"] = {"messages": _messages(form)}
    elif kind == "text":
        body["prompt"] = form.get("prompt", "")
    elif kind == "texts":
        body["input"] = _lines(form.get("prompt", ""))
    elif kind == "ranking":
        body["input"] = {
            "query": form.get("query", ""),
            "documents": _lines(form.get("prompt", "")),
        }
    else:
        body["input"] = _json(form.get("prompt", ""))
    if params := _params(form):
        body["params"] = params
    return body


def _messages(form: dict[str, str]) -> list[dict[str, str]]:
    system, said = form.get("system", "").strip(), form.get("prompt", "")
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": said}]


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def _params(form: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, kind in NUMBERS.items():
        given = form.get(name, "").strip()
        if given:
            try:
                found[name] = kind(given)
            except ValueError:
                raise InvalidRequest(f"'{name}' is not a number: {given[:40]!r}.") from None
    return found


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The input is not JSON: {error}.") from None
