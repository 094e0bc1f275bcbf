"""All rounds of a contest: A B C A B C. A peer that cannot be measured is left out, and said to be."""

import shutil
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path

from bench.contests import CAPACITY_CLIENTS, Contest, Plan
from bench.environments import EnvironmentFailed, python_of
from bench.reporting.result import Entry, Outcome, best, compare
from bench.subjects import Subject
from bench.subjects.queued import FLASK_CELERY, Queued
from bench.turn import Turn, TurnFailed, take_turn


def hold(
    contest: Contest,
    plan: Plan,
    *,
    quick: bool,
    peers: Collection[str] | None,
    scratch: Path,
    held: Sequence[Outcome],
) -> Outcome:
    """Measure all subjects in turn. `held` are outcomes of this run so far; `scratch` is for files.

    Raises `TurnFailed` when ours failed.
    """
    subjects, left_out = _ready(contest.subjects(quick, peers))
    arrivals = _half(contest.half_of, plan, scratch, held) if contest.half_of else None
    turns: dict[int, list[Turn]] = {number: [] for number in range(len(subjects))}
    for round_number in range(1, plan.rounds + 1):
        for number, subject in enumerate(subjects):
            if number not in turns:
                continue
            try:
                turn = take_turn(
                    subject,
                    scratch / contest.name,
                    clients=contest.clients,
                    warm_up=plan.warm_up,
                    seconds=plan.seconds,
                    rate=arrivals,
                    settle=plan.settle,
                    shape=plan.shape,
                )
            except TurnFailed as failure:
                if number == 0:
                    raise
                print(f"LEFT OUT: {failure}", flush=True)
                left_out[_title(subject)] = (
                    f"{str(failure).partition(chr(10))[0]}; its logs are in what the run printed"
                )
                del turns[number]
                continue
            turns[number].append(turn)
            print(
                f"{contest.name} round {round_number}/{plan.rounds}  {_title(subject)}: {_line(turn)}",
                flush=True,
            )
    shutil.rmtree(scratch / contest.name, ignore_errors=True)
    entries = [
        Entry(s.name, s.variant, s.settings, turns[number], s.durable)
        for number, s in enumerate(subjects)
        if number in turns
    ]
    return Outcome(
        contest.name,
        contest.title,
        contest.clients,
        entries,
        compare(entries, contest.figure, contest.goals),
        contest.figure,
        arrivals,
        left_out,
    )


def _ready(subjects: list[Subject]) -> tuple[list[Subject], dict[str, str]]:
    """Those whose environment stands or could be made, and why the others are left out."""
    ready: list[Subject] = []
    left_out: dict[str, str] = {}
    for subject in subjects:
        try:
            if subject.environment is not None:
                python_of(subject.environment)
        except EnvironmentFailed as failure:
            print(f"LEFT OUT: {_title(subject)}: {failure}", flush=True)
            left_out[_title(subject)] = str(failure).replace("\n", " ")
        else:
            ready.append(subject)
    return ready, left_out


def _half(peer: str, plan: Plan, scratch: Path, held: Sequence[Outcome]) -> float:
    """Half of what `peer` did at its best in this run's closed loop, which is run now if it was not."""
    known = [e for o in held if o.contest == "infer" for e in o.entries if e.name == peer]
    if known:
        rates = best(known, "rate").values("rate")
    else:
        subject = Queued(FLASK_CELERY, poll=0.05)
        turn = take_turn(
            subject,
            scratch / "capacity",
            clients=CAPACITY_CLIENTS,
            warm_up=plan.warm_up,
            seconds=plan.seconds,
            settle=plan.settle,
            shape=plan.shape,
        )
        rates = [turn.report.rate]
    return max(1.0, statistics.median(rates) / 2)


def _title(subject: Subject) -> str:
    return f"{subject.name}, {subject.variant}"


def _line(turn: Turn) -> str:
    report = turn.report
    latency = report.latency
    return (
        f"{report.rate:,.0f} jobs/s, p50 {latency.p50:.1f} ms, p99 {latency.p99:.1f} ms, "
        f"{report.wrong} wrong"
    )
