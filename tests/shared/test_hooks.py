"""Observers: those that look are called in turn, and none can break the work."""

import logging

import pytest

from shared.hooks import Hooks, Observers


class Seer(Hooks):
    def __init__(self, seen: list[str], name: str) -> None:
        self._seen = seen
        self._name = name

    def drain_started(self, model: str) -> None:
        self._seen.append(f"{self._name} {model}")


class Broken(Hooks):
    def drain_started(self, model: str) -> None:
        raise ValueError(model)


def test_all_who_look_are_called_in_turn_whenever_they_came() -> None:
    seen: list[str] = []
    observers = Observers(Seer(seen, "first"), Hooks())
    observers.emit("drain_started", "m")
    observers.add(Seer(seen, "second"))
    observers.emit("drain_started", "n")
    observers.emit("jobs_rescued", "m", None)
    assert seen == ["first m", "first n", "second n"]


def test_one_that_breaks_is_told_of_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    with caplog.at_level(logging.ERROR):
        Observers(Broken(), Seer(seen, "next")).emit("drain_started", "m")
    assert seen == ["next m"]
    assert "Broken.drain_started" in caplog.text
