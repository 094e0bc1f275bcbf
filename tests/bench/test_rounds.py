"""A contest goes on without the peers that cannot be measured, and says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import rounds
from bench.contests import Contest, Plan
from bench.environments import EnvironmentFailed
from bench.reporting.goals import Goal
from bench.subjects import Serving
from bench.turn import TurnFailed
from tests.bench.test_turn import Echo

PLAN = Plan(rounds=2, warm_up=0.02, seconds=0.1, settle=0)


class Peer(Echo):
    name, variant = "Flask + peer", "plain"


class Uninstalled(Echo):
    name, variant, environment = "Flask + uninstalled", "plain", "nowhere"


class Failing(Echo):
    name, variant = "Flask + failing", "plain"

    @contextmanager
    def serve(self, folder: Path) -> Iterator[Serving]:
        raise TurnFailed("it does not start\nits log")
        yield


def contest(ours: type[Echo], *peers: type[Echo]) -> Contest:
    goals = (Goal("rate", 1e-9, Peer.name), Goal("rate", 1.0, Uninstalled.name))
    return Contest("tiny", "Tiny", 2, ours, peers, "rate", goals)


def hold(what: Contest, scratch: Path) -> rounds.Outcome:
    return rounds.hold(what, PLAN, quick=True, peers=None, scratch=scratch, held=())


def test_peers_that_cannot_be_measured_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> Path:
        raise EnvironmentFailed(f"environment {name}: pip failed")

    monkeypatch.setattr(rounds, "python_of", refuse)

    outcome = hold(contest(Echo, Uninstalled, Failing, Peer), tmp_path)

    assert outcome.left_out.keys() == {"Flask + uninstalled, plain", "Flask + failing, plain"}
    assert "pip failed" in outcome.left_out["Flask + uninstalled, plain"]
    assert "it does not start" in outcome.left_out["Flask + failing, plain"]
    assert [(e.name, len(e.turns)) for e in outcome.entries] == [("echo", 2), ("Flask + peer", 2)]
    assert [c.met for c in outcome.compared] == [True, None]
    assert not list(tmp_path.iterdir())


def test_without_ours_there_is_no_contest(tmp_path: Path) -> None:
    with pytest.raises(TurnFailed, match="does not start"):
        hold(contest(Failing, Peer), tmp_path)
