"""The playground: forms that make ordinary jobs, and show them run."""

from dataclasses import dataclass

from flask import Response

from api.console.blueprint import console
from api.console.forms import body_of, kind_of, members_of, messages_of
from api.console.pairs import nearest, places, vectors_of
from api.console.shown import Output, Row, error_of, message_of, usage_of
from api.console.visit import ROOT, Visit
from api.http.limits import charge_for_error, charges_of
from api.http.requests import Sent
from api.intake.acceptance import Rejected, submit
from api.intake.submission import submission_of
from api.state.limit_plan import Counted
from shared.domain.errors import JobsError
from shared.domain.models.catalog import ModelSpec
from shared.store.api_keys import Scope

SUBMITS = "POST /v1/jobs"


@dataclass(frozen=True, slots=True)
class Run:
    """What one model made of a form: a job, or why there is none."""

    model: str
    job_id: str = ""
    streams: bool = False
    error: JobsError | None = None


@console.page("GET", "/playground", scope=Scope.JOBS_WRITE)
def playground(visit: Visit) -> Response:
    """The form, for the model that was asked for or the first; perhaps for another one beside it."""
    catalog, asked = visit.services.catalog, visit.request.args
    spec = catalog.get(asked["model"]) if asked.get("model") else next(iter(catalog), None)
    others = [one for one in catalog if spec and _alike(spec, one)]
    beside = next((one.name for one in others if one.name == asked.get("beside")), "")
    shown = [name for name in (spec.name if spec else "", beside) if name]
    return visit.page(
        "playground.html",
        spec=spec,
        kind=kind_of(spec) if spec is not None else "",
        members=members_of(spec) if spec is not None else [],
        chats=spec is not None and asked.get("as") == "chat",
        models=list(catalog),
        others=others,
        beside=beside,
        offline=[name for name in shown if not visit.services.store.status(name).workers],
    )


@console.page("POST", "/playground", submits=SUBMITS)
def run(visit: Visit) -> Response:
    """Make the job, by the way that `POST /v1/jobs` goes, and show it; another one for a model beside."""
    form = visit.form
    first = _submitted(visit, form.get("model", ""))
    if first.error is not None:
        raise first.error
    if not visit.asks_part:
        return visit.moved(f"{ROOT}/jobs/{first.job_id}")
    runs = [first]
    if beside := form.get("beside"):
        visit.charges = charges_of(visit.here, SUBMITS, Counted.SUBMIT)
        second = _submitted(visit, beside)
        if second.error is not None and visit.charges.pending:
            charge_for_error(second.error, visit.charges)
        runs.append(second)
    chats = form.get("as") == "chat"
    return visit.page("_run.html", runs=runs, turns=messages_of(form) if chats else None)


@console.page("GET", "/playground/runs/<job_id>", scope=Scope.JOBS_WRITE)
def run_state(visit: Visit, job_id: str) -> Response:
    """How a run stands, below its text; of a chat, whose turn it is to be, also what was said."""
    record = visit.services.store.get(job_id, visit.caller.tenant)
    turn = visit.request.args.get("turn", "")
    vectors = vectors_of(record)
    return visit.page(
        "_run_state.html",
        row=Row.of(record),
        usage=usage_of(record),
        error=error_of(record),
        output=Output.of(record),
        pairs=nearest(vectors),
        places=places(vectors),
        streams=kind_of(visit.services.catalog.get(record.fields["model"])) == "text",
        message=message_of(record) if turn.isdecimal() else None,
        turn=turn,
    )


def _alike(spec: ModelSpec, other: ModelSpec) -> bool:
    return spec.name != other.name and kind_of(spec) == kind_of(other)


def _submitted(visit: Visit, model: str) -> Run:
    assert visit.charges is not None
    try:
        spec = visit.services.catalog.get(model)
        sent = Sent(None, False, body_of(spec, visit.form))
        submission = submission_of(visit.here, sent, "")
    except JobsError as error:
        return Run(model, error=error)
    accepted = submit(visit.here, submission, visit.charges, 0)
    visit.charges = accepted.charges
    if isinstance(accepted, Rejected):
        return Run(model, error=accepted.error)
    return Run(model, accepted.record.id, kind_of(spec) == "text")
