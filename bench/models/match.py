"""A contest's turns: each side started anew, asked everything, its answers held against ours."""

import subprocess
import sys
from pathlib import Path

import msgspec

from bench.models.asking import Answered, Errand
from bench.models.contests import Answers, Contest, Side
from bench.models.result import Entry, Outcome, Turn
from bench.programs import REPOSITORY
from bench.reporting.figures import percentile
from bench.turn import last_words


class Failed(Exception):
    """A subject did not answer; nothing is compared then."""


def play(contest: Contest, rounds: int, scratch: Path) -> Outcome:
    """All rounds, the sides in turn. Raises `Failed`."""
    turns: list[list[Turn]] = [[] for _ in contest.sides]
    answers: list[Answers] = [[] for _ in contest.sides]
    for round_number in range(rounds):
        for number, side in enumerate(contest.sides):
            folder = scratch / f"{contest.name}-{round_number}-{number}"
            answered = _ask(side, contest.clients, folder)
            answers[number], work = side.read(answered)
            took = sorted(answered.took)
            turn = Turn(work / answered.seconds, percentile(took, 0.5), percentile(took, 0.95))
            turns[number].append(turn)
            print(
                f"{contest.name}  {side.subject.name}: {turn.rate:,.1f} {contest.unit}/s",
                flush=True,
            )
    entries = [
        Entry(
            side.subject.name,
            side.subject.settings,
            turns[number],
            sum(map(contest.alike, answers[0], answers[number])),
            len(answers[0]),
            side.goal,
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
            said, _ = process.communicate(msgspec.json.encode(errand) + b"\n")
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            raise Failed(f"{side.subject.name} was not asked\n{last_words(folder)}")
        answered = msgspec.json.decode(said, type=Answered)
        refused = [status for status in answered.statuses if status != 200]
        if refused:
            raise Failed(f"{side.subject.name}: {len(refused)} answers of {refused[0]}")
        return answered
