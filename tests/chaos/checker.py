"""Judges the promise on a recorded history; docs/reliability.md says it in words.

A finding is a promise broken. An empty list is what a campaign wants, so the checker itself is tested
with planted violations of every kind (test_checker.py).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

from client import Event, message_of
from shared.domain.errors import InvalidRequest
from shared.domain.states import TERMINAL
from shared.store.events import EventId
from tests.chaos.history import Accepted, Final, History, Logged, Seen

_TERMINAL = frozenset(state.value for state in TERMINAL)


class Kind(StrEnum):
    """lost: an accepted job without an end. duplicated: two ends, or two jobs for one key. gap: text
    that a reader or the log lacks. repeat: an event or text twice or out of order. late: an event
    after the end. wrong: an output that nobody asked for. leftover: something outlived its job."""

    LOST = "lost"
    DUPLICATED = "duplicated"
    GAP = "gap"
    REPEAT = "repeat"
    LATE = "late"
    WRONG = "wrong"
    LEFTOVER = "leftover"


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise."""

    kind: Kind
    job: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Said:
    """One event, from whichever source."""

    id: str
    kind: str
    text: str
    parts: list[dict[str, Any]] = field(default_factory=list)


def check(history: History) -> list[Finding]:
    """Every violation in a history; none for a clean one."""
    accepted = {entry.job: entry for entry in history.of(Accepted)}
    finals: dict[str, list[Final]] = defaultdict(list)
    for final in history.of(Final):
        finals[final.job].append(final)
    logs = {entry.job: [_Said(*event) for event in entry.events] for entry in history.of(Logged)}
    readers: dict[tuple[str, str], list[_Said]] = defaultdict(list)
    for seen in history.of(Seen):
        readers[seen.job, seen.reader].append(_Said(seen.id, seen.kind, seen.text, seen.parts))

    findings = list(_keys(history.of(Accepted)))
    for job, entry in accepted.items():
        findings += _ends(job, finals[job])
        findings += _log(entry, finals[job][-1:], logs.get(job))
    for (job, reader), events in readers.items():
        findings += _reader(job, reader, events, finals[job][-1:], logs.get(job))
    return findings


def _keys(entries: Iterable[Accepted]) -> Iterator[Finding]:
    """One Idempotency-Key, one job."""
    jobs: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        jobs[entry.key].add(entry.job)
    for key, made in jobs.items():
        for job in sorted(made)[1:]:
            yield Finding(Kind.DUPLICATED, job, f"a second job for the key {key}")


def _ends(job: str, finals: Sequence[Final]) -> Iterator[Finding]:
    """Exactly one terminal state, kept for good."""
    ends = [final.status for final in finals if final.status in _TERMINAL]
    if not ends:
        last = finals[-1].status if finals else "never seen again"
        yield Finding(Kind.LOST, job, f"accepted, then {last}")
        return
    if len(set(ends)) > 1:
        yield Finding(Kind.DUPLICATED, job, f"ended as {' and as '.join(sorted(set(ends)))}")
    first = next(i for i, final in enumerate(finals) if final.status in _TERMINAL)
    for final in finals[first:]:
        if final.status not in _TERMINAL:
            yield Finding(Kind.DUPLICATED, job, f"{final.status} again after its end")
            return


def _log(
    entry: Accepted, finals: Sequence[Final], log: Sequence[_Said] | None
) -> Iterator[Finding]:
    """The log ends with the one `done`, its ids grow, and its text is the output."""
    if not finals or finals[0].status not in _TERMINAL:
        return
    [final] = finals
    if not log:
        yield Finding(Kind.LOST, entry.job, "its log is gone")
        return
    yield from _stream(entry.job, "the log", log)
    if not any(event.kind == "done" for event in log):
        yield Finding(Kind.LOST, entry.job, "its log has no done")
    yield from _one_end(entry.job, "the log", log, final)
    if final.status == "succeeded":
        if entry.streams:
            yield from _same(entry.job, "the log", _text(log), final.text or "")
        if entry.expected is not None and final.text != entry.expected:
            yield Finding(Kind.WRONG, entry.job, f"output {_short(final.text)}")


def _reader(
    job: str,
    reader: str,
    events: Sequence[_Said],
    finals: Sequence[Final],
    log: Sequence[_Said] | None,
) -> Iterator[Finding]:
    """What one reader got over all its connections: everything, once, in order, to the end."""
    yield from _stream(job, reader, events)
    if not finals or finals[0].status not in _TERMINAL:
        return
    if not any(event.kind == "done" for event in events):
        yield Finding(Kind.GAP, job, f"{reader} never saw the end")
        return
    yield from _one_end(job, reader, events, finals[0])
    if finals[0].message is not None:
        told = message_of(Event(e.kind, {"parts": e.parts}, e.id) for e in events)
        if told != finals[0].message:
            detail = f"{reader}: parts of {_short(str(told))} instead of {finals[0].message}"
            yield Finding(Kind.GAP, job, detail)
    if log is None:
        return
    yield from _same(job, reader, _text(events), _text(log))
    foreign = {event.id for event in events} - {event.id for event in log}
    if foreign:
        yield Finding(Kind.WRONG, job, f"{reader} saw {min(foreign)}, which the log does not hold")


def _stream(job: str, who: str, events: Sequence[_Said]) -> Iterator[Finding]:
    """Ids strictly grow, `done` comes once, and nothing comes after it."""
    for before, after in pairwise(events):
        if not _grows(before.id, after.id):
            yield Finding(Kind.REPEAT, job, f"{who}: {after.id} after {before.id}")
    kinds = [event.kind for event in events]
    dones = Counter(kinds)["done"]
    if dones > 1:
        yield Finding(Kind.DUPLICATED, job, f"{who}: {dones} done events")
    if dones and any(kind != "done" for kind in kinds[kinds.index("done") + 1 :]):
        yield Finding(Kind.LATE, job, f"{who}: events after done")


def _one_end(job: str, who: str, events: Sequence[_Said], final: Final) -> Iterator[Finding]:
    told = {event.text for event in events if event.kind == "done"} - {final.status}
    if told:
        yield Finding(
            Kind.DUPLICATED, job, f"{who} says {', '.join(sorted(told))}, the job {final.status}"
        )


def _same(job: str, who: str, text: str, wanted: str) -> Iterator[Finding]:
    if text != wanted:
        kind = Kind.REPEAT if len(text) > len(wanted) else Kind.GAP
        yield Finding(kind, job, f"{who}: {_short(text)} instead of {_short(wanted)}")


def _text(events: Iterable[_Said]) -> str:
    """The token texts after the last reset."""
    pieces: list[str] = []
    for event in events:
        if event.kind == "reset":
            pieces.clear()
        elif event.kind == "token":
            pieces.append(event.text)
    return "".join(pieces)


def _grows(before: str, after: str) -> bool:
    try:
        return EventId.parse(before) < EventId.parse(after)
    except InvalidRequest:
        return False


def _short(text: str | None) -> str:
    return repr(text) if text is None or len(text) <= 40 else f"{text[:30]!r}… ({len(text)})"
