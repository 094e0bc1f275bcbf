"""A contest's turns: each side started anew, asked everything, its answers held against ours."""

import subprocess
import sys
from pathlib import Path

import msgspec

from bench.environments import EnvironmentFailed
from bench.models.asking import Answered, Errand
from bench.models.contests import Answers, Contest, Side
from bench.models.result import Entry, Outcome, Turn
from bench.programs import REPOSITORY
from bench.reporting.figures import percentile
from bench.turn import last_words

PATIENCE = 300.0
"""Seconds within which a subject must have answered all that it is asked in a turn."""


class Failed(Exception):
    """A subject did not answer."""


def play(contest: Contest, rounds: int, scratch: Path) -> Outcome:
    """All rounds, the sides in turn. A peer that fails once is asked no more, and the others go on.

    Raises `Failed` when this project does not answer.
    """
    turns: list[list[Turn]] = [[] for _ in contest.sides]
    answers: list[Answers] = [[] for _ in contest.sides]
    failed: dict[int, str] = {}
    for round_number in range(rounds):
        for number, side in enumerate(contest.sides):
            if number in failed:
                continue
            folder = scratch / f"{contest.name}-{round_number}-{number}"
            try:
                answers[number], turn = _turn(side, contest, folder)
            except (Failed, EnvironmentFailed) as failure:
                if number == 0:
                    raise Failed(f"{side.subject.name} did not answer: {failure}") from None
                failed[number] = str(failure).partition("\n")[0]
                turns[number], answers[number] = [], []
                print(f"{contest.name}  {side.subject.name} did not answer: {failure}", flush=True)
            else:
                turns[number].append(turn)
    entries = [
        Entry(
            side.subject.name,
            side.subject.settings,
            turns[number],
            sum(map(contest.alike, answers[0], answers[number])),
            len(answers[number]),
            side.goal,
            failed.get(number, ""),
        )
        for number, side in enumerate(contest.sides)
    ]
    return Outcome(
        contest.name,
        contest.title,
        contest.unit,
        contest.rate_goal,
        contest.p95_goal,
        contest.least,
        entries,
    )


def _turn(side: Side, contest: Contest, folder: Path) -> tuple[Answers, Turn]:
    answered = _ask(side, contest.clients, folder)
    answers, work = side.read(answered)
    took = sorted(answered.took)
    turn = Turn(work / answered.seconds, percentile(took, 0.5), percentile(took, 0.95))
    print(f"{contest.name}  {side.subject.name}: {turn.rate:,.1f} {contest.unit}/s", flush=True)
    return answers, turn


def _ask(side: Side, clients: int, folder: Path) -> Answered:
    folder.mkdir(parents=True)
    with side.subject.serve(folder) as url:
        errand = Errand(url, side.subject.path, side.subject.headers, clients, side.bodies)
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.models.asking"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C is this process' business; it ends the client.
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(msgspec.json.encode(errand) + b"\n", PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(
                f"not all was answered within {PATIENCE:g} s\n{last_words(folder)}"
            ) from None
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            raise Failed(f"it was not asked\n{last_words(folder)}")
        answered = msgspec.json.decode(said, type=Answered)
        refused = [status for status in answered.statuses if status != 200]
        if refused:
            raise Failed(f"{len(refused)} answers of {refused[0]}")
        return answered
