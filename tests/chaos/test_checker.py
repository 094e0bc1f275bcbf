"""The checker finds every planted violation and nothing in clean histories."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from tests.chaos.checker import Finding, Kind, check
from tests.chaos.history import Accepted, Entry, Final, History, Logged, Seen

TEXT = "one two three "
LOG = [
    ("0-1", "status", ""),
    ("1-0", "status", ""),
    ("1-1", "token", "one "),
    ("1-2", "token", "two "),
    ("1-3", "token", "three "),
    ("1-4", "done", "succeeded"),
]
Events = list[tuple[str, str, str]]


def story(
    job: str = "j",
    *,
    status: str = "succeeded",
    text: str | None = TEXT,
    log: Events | None = None,
    seen: Events | None = None,
    expected: str | None = TEXT,
) -> list[Entry]:
    """One job, one reader over two connections. A clean one unless told otherwise."""
    log = LOG if log is None else log
    seen = log if seen is None else seen
    entries: list[Entry] = [Accepted(0.0, job, f"key-{job}", expected)]
    half = len(seen) // 2
    for number, event in enumerate(seen):
        entries.append(Seen(1.0, job, "r", 1 if number < half else 2, *event))
    entries.append(Final(2.0, job, status, text))
    entries.append(Logged(job, log))
    return entries


def found(entries: list[Entry]) -> set[Kind]:
    return {finding.kind for finding in check(recorded(entries))}


def recorded(entries: list[Entry]) -> History:
    history = History()
    for entry in entries:
        history.add(entry)
    return history


def without(*ids: str) -> Events:
    return [event for event in LOG if event[0] not in ids]


def test_a_clean_history_passes() -> None:
    assert check(recorded(story())) == []


def test_many_clean_jobs_pass_in_any_interleaving() -> None:
    entries = [entry for number in range(20) for entry in story(f"j{number}")]
    draw = random.Random(3)
    queues = {job: [e for e in entries if e.job == job] for job in {e.job for e in entries}}  # type: ignore[union-attr]
    mixed: list[Entry] = []
    while queues:
        job = draw.choice(sorted(queues))
        mixed.append(queues[job].pop(0))
        if not queues[job]:
            del queues[job]
    assert check(recorded(mixed)) == []


def test_resets_retries_and_merged_tokens_are_lawful() -> None:
    log = [
        ("0-1", "status", ""),
        ("1-0", "status", ""),
        ("1-1", "token", "wrong "),
        ("1-2", "status", ""),
        ("2-0", "status", ""),
        ("2-1", "reset", ""),
        ("2-2", "token", "one two "),
        ("2-3", "token", "three "),
        ("2-4", "done", "succeeded"),
    ]
    assert check(recorded(story(log=log))) == []
    merged = [*log[:6], ("2-3", "token", TEXT), log[-1]]
    assert check(recorded(story(log=log, seen=merged))) == []


@pytest.mark.parametrize("status", ["failed", "canceled", "expired"])
def test_every_end_is_an_end(status: str) -> None:
    log = [*LOG[:3], ("1-2", "done", status)]
    assert check(recorded(story(status=status, text=None, log=log))) == []


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_job_without_an_end_is_lost(status: str) -> None:
    assert found(story(status=status, text=None)) == {Kind.LOST}


def test_a_job_that_is_never_seen_again_is_lost() -> None:
    [accepted, *_] = story()
    assert found([accepted]) == {Kind.LOST}


def test_an_end_without_a_log_is_lost() -> None:
    entries: list[Entry] = [entry for entry in story() if not isinstance(entry, Logged)]
    assert found(entries) == {Kind.LOST}


def test_an_end_without_a_done_event_is_lost_and_its_reader_hangs() -> None:
    assert found(story(log=without("1-4"))) == {Kind.LOST, Kind.GAP}


def test_two_ends_are_found_however_they_show() -> None:
    ends: list[Entry] = [Final(3.0, "j", "failed"), Final(3.0, "j", "succeeded", TEXT)]
    assert found([*story(), *ends]) == {Kind.DUPLICATED}
    again: list[Entry] = [*story(), Final(3.0, "j", "running"), *story()[-2:]]
    assert found(again) == {Kind.DUPLICATED}
    twice = [*LOG, ("1-5", "done", "succeeded")]
    assert found(story(log=twice, seen=LOG)) == {Kind.DUPLICATED}
    assert found(story(seen=twice)) >= {Kind.DUPLICATED}
    assert found(story(seen=[*LOG[:-1], ("1-4", "done", "failed")])) == {Kind.DUPLICATED}
    assert found(story(log=[*LOG[:-1], ("1-4", "done", "failed")], seen=LOG)) == {Kind.DUPLICATED}


def test_two_jobs_for_one_key_are_found() -> None:
    second = [
        Accepted(0.0, "k", "key-j", TEXT) if isinstance(entry, Accepted) else entry
        for entry in story("k")
    ]
    assert found([*story("j"), *second]) == {Kind.DUPLICATED}


@pytest.mark.parametrize("missing", ["1-1", "1-2", "1-3"])
def test_a_gap_at_a_reader_is_found(missing: str) -> None:
    assert found(story(seen=without(missing))) == {Kind.GAP}


@pytest.mark.parametrize("missing", ["1-1", "1-2", "1-3"])
def test_a_gap_in_the_log_is_found(missing: str) -> None:
    assert found(story(log=without(missing))) == {Kind.GAP}


def test_a_reader_without_the_end_has_a_gap() -> None:
    assert found(story(seen=LOG[:-1])) == {Kind.GAP}


@pytest.mark.parametrize("position", range(len(LOG) - 1))
def test_a_repeated_event_is_found(position: int) -> None:
    repeated = [*LOG[: position + 1], *LOG[position:]]
    assert Kind.REPEAT in found(story(seen=repeated))
    assert Kind.REPEAT in found(story(log=repeated, seen=LOG))


def test_events_out_of_order_are_found() -> None:
    swapped = [*LOG[:2], LOG[3], LOG[2], *LOG[4:]]
    assert Kind.REPEAT in found(story(seen=swapped))


def test_text_twice_under_fresh_ids_is_a_repeat() -> None:
    log = [*LOG[:-1], ("1-4", "token", "three "), ("1-5", "done", "succeeded")]
    assert found(story(log=log)) == {Kind.REPEAT}


def test_a_token_after_the_end_is_late() -> None:
    late = [*LOG, ("1-5", "token", "")]
    assert found(story(log=late, seen=LOG)) == {Kind.LATE}
    assert found(story(seen=late)) >= {Kind.LATE}


@pytest.mark.parametrize("status", ["canceled", "expired"])
def test_a_canceled_or_expired_job_that_goes_on_is_late(status: str) -> None:
    log = [*LOG[:2], ("1-1", "done", status), ("1-2", "token", "one ")]
    assert Kind.LATE in found(story(status=status, text=None, log=log, seen=log[:3]))


def test_an_output_that_nobody_asked_for_is_wrong() -> None:
    assert found(story(expected="something else")) == {Kind.WRONG}


def test_an_event_that_the_log_does_not_hold_is_wrong() -> None:
    invented = [*LOG[:5], ("1-9", "done", "succeeded")]
    assert found(story(seen=invented)) == {Kind.WRONG}


def test_findings_name_the_job_and_one_bad_job_does_not_hide_among_good_ones() -> None:
    entries = [entry for number in range(50) for entry in story(f"j{number}")]
    entries += story("bad", seen=without("1-2"))
    [finding] = check(recorded(entries))
    assert finding == Finding(Kind.GAP, "bad", finding.detail)


VIOLATIONS: list[Callable[[], list[Entry]]] = [
    lambda: story(status="running"),
    lambda: story(seen=without("1-2")),
    lambda: story(seen=[*LOG[:3], *LOG[2:]]),
]


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_history_says_the_same_after_a_round_trip_through_a_file(
    tmp_path: Path, violation: Callable[[], list[Entry]]
) -> None:
    history = recorded(violation())
    history.dump(tmp_path / "h.jsonl")
    again = History.load(tmp_path / "h.jsonl")
    assert list(again) == list(history)
    assert check(again) == check(history) != []


@pytest.mark.parametrize("lost", [None, 0, 1])
def test_the_parts_that_a_reader_got_are_those_of_the_message(lost: int | None) -> None:
    parts = [[{"type": "content", "text": text}] for text in ("one ", "two three ")]
    entries = story()
    tokens = [n for n, entry in enumerate(entries) if getattr(entry, "kind", "") == "token"]
    for place, added in zip(tokens, parts, strict=False):
        entries[place] = structs.replace(entries[place], parts=added)
    if lost is not None:
        entries[tokens[lost]] = structs.replace(entries[tokens[lost]], parts=[])
    message = {"role": "assistant", "content": TEXT}
    entries = [structs.replace(e, message=message) if isinstance(e, Final) else e for e in entries]

    assert found(entries) == (set() if lost is None else {Kind.GAP})
