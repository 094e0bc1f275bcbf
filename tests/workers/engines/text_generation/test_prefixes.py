"""Beginnings that are computed once: what is found, what is lost, and that texts stay what they were."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.domain.models.catalog import Batch, Limits, PrefixCache
from tests.conftest import by_turns, examples
from tests.engine_driver import Ran, drive, resumed
from tests.tiny_models import (
    CHAT_TEMPLATE,
    LLAMA,
    WAYS,
    byte_level_tokenizer,
    save_causal,
    text_spec,
)
from workers.engines.base import Failed, Work
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.prefixes import BLOCK, Prefixes, extend, public_names

SYSTEM = "You answer briefly, and in rhymes, whatever it is that a user may want to know of you: "
ENDS = ["why", "the fox", "naïve?", "def f():", "é", "jump over", "dog", "a list"]


def names(*tokens: int) -> list[bytes]:
    """The blocks of a text in which each of these tokens fills a block."""
    found: list[bytes] = []
    extend(found, [token for token in tokens for _ in range(BLOCK)])
    return found


def anywhere(_slot: int, _blocks: int) -> bool:
    return True


def test_equal_names_mean_equal_texts_from_the_start() -> None:
    assert names(1, 2, 3)[:2] == names(1, 2, 4)[:2]
    assert names(1, 2, 3)[2] != names(1, 2, 4)[2]
    assert names(5, 2)[1] != names(1, 2)[1]

    piecewise: list[bytes] = []
    for length in range(3 * BLOCK):
        extend(piecewise, ([1] * BLOCK + [2] * BLOCK + [3] * BLOCK)[: length + 1])
        assert len(piecewise) == (length + 1) // BLOCK
    assert piecewise == names(1, 2, 3)


def test_the_longest_beginning_is_found_until_it_is_overwritten() -> None:
    prefixes = Prefixes(3)
    prefixes.hold(0, names(1))
    prefixes.hold(1, names(1, 2, 3))

    assert prefixes.find(names(1, 2, 9), anywhere) == (2, {1})
    assert prefixes.find(names(1, 9), anywhere) == (1, {0, 1})
    assert prefixes.find(names(1, 2, 9), lambda slot, _: slot != 1) == (1, {0})
    assert prefixes.find(names(1, 2, 9), lambda _, blocks: blocks > 1) == (2, {1})
    assert prefixes.find(names(9), anywhere) == (0, set())

    prefixes.cut(1, 1)

    assert prefixes.find(names(1, 2, 3), anywhere) == (1, {0, 1})
    prefixes.cut(0, 0)
    prefixes.cut(1, 0)
    assert prefixes.find(names(1), anywhere) == (0, set())
    assert prefixes._where == {}


@settings(max_examples=examples(60))
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.integers(1, 2), max_size=4), st.integers(0, 4))
    )
)
def test_what_is_found_is_what_some_slot_holds(
    changes: list[tuple[int, list[int], int]],
) -> None:
    prefixes, held = Prefixes(3), [list[int]() for _ in range(3)]
    for slot, text, kept in changes:
        prefixes.cut(slot, kept)
        del held[slot][kept:]
        if text[: len(held[slot])] == held[slot]:
            prefixes.hold(slot, names(*text))
            held[slot] = text
        for wanted in ([1, 1, 2], [2, 1], text):
            shared = [
                next((n for n, (a, b) in enumerate(zip(h, wanted, strict=False)) if a != b), None)
                for h in held
            ]
            lengths = [
                min(len(h), len(wanted)) if s is None else s
                for h, s in zip(held, shared, strict=True)
            ]
            longest = max(lengths)
            holders = {n for n, length in enumerate(lengths) if length == longest and longest}
            assert prefixes.find(names(*wanted), anywhere) == (longest, holders)


def loaded(
    path: Path, *, reuse: bool = True, slots: int = 4, budget: int = 40, shared: Any = ()
) -> TextGeneration:
    batch = Batch(max_size=slots, token_budget=budget, prefix_reuse=reuse)
    limits = Limits(max_prompt_tokens=160, max_new_tokens=64)
    cache = PrefixCache(shared=list(shared))
    engine = TextGeneration(text_spec(path, batch=batch, limits=limits, prefix_cache=cache))
    engine.load()
    return engine


def works(**params: Any) -> list[Work]:
    rules = {"max_new_tokens": 12} | params
    return [Work(f"job-{n}", SYSTEM + end, rules, seed=n) for n, end in enumerate(ENDS)]


def cached(ran: Ran) -> list[int]:
    return [ran.finished(f"job-{n}").usage["cached_tokens"] for n in range(len(ENDS))]


def texts(ran: Ran) -> dict[str, Any]:
    return {job: ran.finished(job).output for job in ran.outcomes}


@pytest.mark.explores
@pytest.mark.parametrize(
    ("budget", "params"), by_turns([16, 40, 1000], [{}, {"temperature": 1.0, "top_p": 0.9}])
)
def test_a_shared_beginning_is_computed_once_and_texts_stay_the_same(
    llama: Path, budget: int, params: dict[str, Any]
) -> None:
    usual = drive(loaded(llama, reuse=False, budget=budget), works(**params))
    engine = loaded(llama, budget=budget)
    run, tokens = engine._runner.run, 0

    def counted(chunks: Any) -> Any:
        nonlocal tokens
        tokens += sum(chunk.length for chunk in chunks if chunk.sequence.generated == 0)
        return run(chunks)

    engine._runner.run = counted  # type: ignore[method-assign]
    ran = drive(engine, works(**params))

    assert texts(ran) == texts(usual)
    assert cached(usual) == [0] * len(ENDS)
    first, *others = cached(ran)
    assert first == 0
    assert all(count >= 48 and count % BLOCK == 0 for count in others)
    prompts = sum(ran.finished(f"job-{n}").usage["prompt_tokens"] for n in range(len(ENDS)))
    assert tokens == prompts - sum(others)


def test_a_beginning_outlives_its_job_until_its_slot_is_overwritten(llama: Path) -> None:
    engine = loaded(llama, slots=2)
    [first, second, *_] = works()
    drive(engine, [first])

    assert drive(engine, [second]).finished("job-1").usage["cached_tokens"] >= 48
    drive(engine, [Work(str(n), chr(97 + n) * 80, {"max_new_tokens": 2}, 0) for n in range(2)])
    assert drive(engine, [second]).finished("job-1").usage["cached_tokens"] == 0


def test_a_prompt_that_is_there_already_still_runs_one_token(llama: Path) -> None:
    engine = loaded(llama)
    work = Work("x", "x" * 64, {"max_new_tokens": 4}, 0)
    first = drive(engine, [work]).finished("x")

    again = drive(engine, [work]).finished("x")

    assert again.output == first.output
    assert again.usage["prompt_tokens"] % BLOCK == 0
    assert again.usage["cached_tokens"] == again.usage["prompt_tokens"] - BLOCK


def test_cancels_and_failed_steps_leave_no_wrong_beginnings(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = texts(drive(loaded(llama, reuse=False), works()))
    engine = loaded(llama)
    run, calls = engine._runner.run, 0

    def faulty(chunks: Any) -> Any:
        nonlocal calls
        calls += 1
        ran = run(chunks)
        if calls % 3 == 0:
            # The keys of what was just run are wrong when the step breaks.
            for chunk in chunks:
                for tensor in (*engine._runner._cache.keys, *engine._runner._cache.values):  # type: ignore[attr-defined]
                    tensor[chunk.slot, :, chunk.start : chunk.end] = 7.0
            raise RuntimeError("a device broke")
        return ran

    monkeypatch.setattr(engine._runner, "run", faulty)
    ran, steps = Ran(), 0
    for turn in range(3):
        for work in works():
            engine.admit(work)
        while engine.pending():
            steps += 1
            if steps % 11 == 0 and f"job-{turn}" in engine._sequences:
                engine.cancel(f"job-{turn}")
            try:
                ran.take(engine.step())
            except RuntimeError:
                continue
        assert {job: expected[job] for job in ran.outcomes} == texts(ran)
        ran = Ran()
    assert steps > 60


def test_a_slot_that_was_scrubbed_holds_nothing(llama: Path, monkeypatch: Any) -> None:
    engine = loaded(llama)
    [first, second, *_] = works()
    run = engine._runner.run

    def poisoned(chunks: Any) -> Any:
        rows, logits = run(chunks)
        for tensor in engine._runner._cache.values:  # type: ignore[attr-defined]
            tensor[chunks[0].slot] = float("nan")
        return rows, logits * float("nan")

    with monkeypatch.context() as patched:
        patched.setattr(engine._runner, "run", poisoned)
        assert isinstance(drive(engine, [first]).outcomes["job-0"], Failed)

    again = drive(engine, [second])
    assert again.finished("job-1").usage["cached_tokens"] == 0
    assert texts(again) == texts(drive(loaded(llama, reuse=False), [second]))


def test_a_resumed_text_is_found_too_and_scored_where_that_is_wanted(llama: Path) -> None:
    engine = loaded(llama)
    [work, *_] = works()
    whole = drive(engine, [work])
    [scored, *_] = works(logprobs=True)

    again = resumed(work, whole.pieces["job-0"][:8])
    assert texts(drive(engine, [again])) == texts(whole)
    ran = drive(engine, [resumed(scored, whole.pieces["job-0"][:8])])

    assert ran.text("job-0") == whole.text("job-0")
    assert len(ran.finished("job-0").output["logprobs"]) == 12


def test_a_window_that_has_moved_on_cannot_be_continued_from_its_beginning(tmp_path: Path) -> None:
    windowed = LLAMA | {"sliding_window": 12}
    path = save_causal(tmp_path, "MistralConfig", **windowed)
    engine = loaded(path)
    assert engine._runner.rewind == 12 + 40  # type: ignore[attr-defined]
    [first, second, third, *_] = works(max_new_tokens=4)
    longer = replace(first, params={"max_new_tokens": 60})
    expected = texts(drive(loaded(path, reuse=False), [first, second, third]))

    ran = drive(engine, [first])
    assert drive(engine, [second]).finished("job-1").usage["cached_tokens"] >= 48
    ran = drive(engine, [longer])
    assert ran.finished("job-0").usage["cached_tokens"] >= 48
    # The slots of the short texts go to others; the long one's still knows its blocks.
    drive(engine, [Work(str(n), chr(97 + n) * 80, {"max_new_tokens": 2}, 0) for n in range(3)])
    again = drive(engine, [second, third])

    assert again.finished("job-1").usage["cached_tokens"] == 0
    # The one before has just computed it.
    assert again.finished("job-2").usage["cached_tokens"] >= 48
    assert texts(again)["job-1"] == expected["job-1"]
    assert texts(again)["job-2"] == expected["job-2"]


def test_texts_with_windows_are_the_same_whatever_is_reused_and_whatever_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = LLAMA | {"head_dim": 16, "num_local_experts": 4, "sliding_window": 12}
    path = save_causal(tmp_path, "GptOssConfig", **options)
    expected = texts(drive(loaded(path, reuse=False), works(max_new_tokens=30)))
    engine = loaded(path, slots=3, budget=24)
    run, calls = engine._runner.run, 0

    def faulty(chunks: Any) -> Any:
        nonlocal calls
        calls += 1
        ran = run(chunks)
        if calls % 3 == 0:
            raise RuntimeError("a device broke")
        return ran

    monkeypatch.setattr(engine._runner, "run", faulty)
    for _ in range(2):
        ran = Ran()
        for work in works(max_new_tokens=30):
            engine.admit(work)
        while engine.pending():
            try:
                ran.take(engine.step())
            except RuntimeError:
                continue
        assert texts(ran) == expected


def test_a_model_that_is_not_packed_shares_nothing_and_says_so(tmp_path: Path) -> None:
    config, sizes = WAYS["static"]
    path = save_causal(tmp_path, config, **sizes)

    assert loaded(path)._scheduler._reuse is False
    assert set(cached(drive(loaded(path), works()))) == {0}


def test_tenants_share_nothing_but_what_is_public() -> None:
    ones, twos, threes = [1] * BLOCK, [2] * BLOCK, [3] * BLOCK
    public = public_names([ones + twos + [3]])

    def named(tokens: list[int], salt: str) -> list[bytes]:
        found: list[bytes] = []
        extend(found, tokens, salt, public)
        return found

    assert len(public) == 2
    assert named(ones + twos, "a") == named(ones + twos, "b")
    assert named(ones + threes, "a")[0] == named(ones + threes, "b")[0]
    mine, yours = named(ones + twos + threes + ones, "a"), named(ones + twos + threes + ones, "b")
    assert mine[:2] == yours[:2]
    assert not set(mine[2:]) & set(yours)
    assert not set(named(threes + ones, "a")) & set(named(threes + ones, "b"))
    # What is public in one place is a tenant's own in another.
    assert not set(named(twos, "a")) & set(named(twos, "b"))
    assert named(threes + ones, "a") == named(threes + ones, "a")


def other(work: Work, salt: str) -> Work:
    return replace(work, salt=salt)


def cached_in(engine: TextGeneration, work: Work) -> int:
    count: int = drive(engine, [work]).finished(work.id).usage["cached_tokens"]
    return count


def test_nobody_is_told_what_another_tenant_has_asked(llama: Path) -> None:
    engine = loaded(llama, slots=4)
    [first, second, *_] = works()

    assert cached_in(engine, other(first, "a")) == 0
    assert cached_in(engine, other(second, "b")) == 0
    assert cached_in(engine, other(first, "b")) >= 48
    assert cached_in(engine, other(second, "a")) >= 48


def test_in_one_step_only_the_tenants_own_beginnings_are_waited_for(llama: Path) -> None:
    engine = loaded(llama, slots=4, budget=1000)
    [first, second, third, *_] = works()

    ran = drive(engine, [other(first, "a"), other(second, "b"), other(third, "a")])

    counts = [ran.finished(f"job-{n}").usage["cached_tokens"] for n in range(3)]
    assert counts[:2] == [0, 0]
    assert counts[2] >= 48


def test_a_text_that_the_operator_names_is_shared_in_whole_blocks(llama: Path) -> None:
    engine = loaded(llama, slots=4, shared=[SYSTEM])
    [first, *_] = works()
    named = len(byte_level_tokenizer()(SYSTEM)["input_ids"])
    beyond = replace(first, content=SYSTEM + "the same words follow, though they are secret: 1")

    drive(engine, [other(beyond, "a")])
    whole = cached_in(engine, other(beyond, "b"))

    assert named - 2 * BLOCK < whole <= named
    assert whole % BLOCK == 0
    assert cached_in(engine, other(beyond, "a")) > whole


def test_a_system_message_that_the_operator_names_is_shared(tmp_path: Path) -> None:
    path = save_causal(tmp_path, **LLAMA)
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    engine = loaded(path, slots=4, shared=[SYSTEM])

    def chat(system: str, user: str, salt: str) -> Work:
        turns = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        return Work("x", {"messages": turns}, {"max_new_tokens": 4}, 0, salt=salt)

    drive(engine, [chat(SYSTEM, "why", "a"), replace(chat(SYSTEM[1:], "why", "a"), id="y")])

    assert cached_in(engine, chat(SYSTEM, "who", "b")) >= 48
    assert cached_in(engine, chat(SYSTEM[1:], "why", "b")) == 0
