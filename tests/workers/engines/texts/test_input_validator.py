"""Long prompts: refused before they are tokenised where that can be known, else read aside."""

import threading
from pathlib import Path
from typing import Any

import pytest

from shared.domain.errors import InputRefused
from tests.conftest import eventually
from tests.engine_driver import drive
from tests.tiny_models import LLAMA, save_causal, text_spec
from workers.engines.base import Failed, Work
from workers.engines.batching.reader import LONG
from workers.engines.text_generation.engine import TextGeneration

FILLER = "\u200b" * (LONG + 1)
"""Long, and no text of it is too long for certain: see `unbounded`."""


def unbounded(path: Path) -> TextGeneration:
    """An engine whose tokenizer may make anything vanish, so that tokens have to be counted."""
    engine = TextGeneration(text_spec(path))
    engine.load()
    engine._validators[""].bounds = type(engine._validators[""].bounds)(
        engine._validators[""].bounds.tokens
    )
    return engine


def reading(engine: TextGeneration, go: threading.Event) -> None:
    """Have the engine wait for `go` before it reads a long prompt."""
    read = engine._validators[""].read

    def waits(work: Work) -> list[int]:
        if len(work.content) > LONG:
            assert go.wait(20)
        return read(work)

    engine._validators[""].read = waits  # type: ignore[method-assign]


def counted(engine: TextGeneration, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the tokenizer is given from now on."""
    given: list[str] = []
    encode = engine._validators[""]._encode
    assert encode is not None

    def noted(text: str, special: bool) -> Any:
        given.append(text)
        return encode(text, special)

    monkeypatch.setattr(engine._validators[""], "_encode", noted)
    return given


def test_what_cannot_fit_is_refused_and_never_tokenised(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TextGeneration(text_spec(llama))
    engine.load()
    given = counted(engine, monkeypatch)

    [outcome] = drive(engine, [Work("x", "x" * 2_000_000, {}, 0)]).outcomes.values()

    assert isinstance(outcome, Failed)
    assert outcome.code == "prompt_too_long"
    assert given == []


def test_what_a_template_makes_of_a_chat_is_bounded_before_it_is_tokenised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_causal(tmp_path, **LLAMA)
    (path / "chat_template.jinja").write_text(
        "{% for m in messages %}{% for n in messages %}{{ n.content }}{% endfor %}{% endfor %}"
    )
    engine = TextGeneration(text_spec(path))
    engine.load()
    given = counted(engine, monkeypatch)
    chat = {"messages": [{"role": "system", "content": "x" * 100} for _ in range(60)]}

    [outcome] = drive(engine, [Work("x", chat, {}, 0)]).outcomes.values()

    assert isinstance(outcome, Failed)
    assert outcome.code == "prompt_too_long"
    assert given == []


def test_others_go_on_while_a_long_prompt_is_read(llama: Path) -> None:
    engine = unbounded(llama)
    go = threading.Event()
    reading(engine, go)
    engine.admit(Work("long", FILLER, {}, 0))
    engine.admit(Work("short", "a", {"max_new_tokens": 8}, 0))

    steps = 0
    while engine.pending() > 1:
        assert engine.batch_delay() == 0
        steps += len(engine.step().shares)
    assert steps == 8

    assert engine.batch_delay() > 0
    assert engine.step().outcomes == []
    go.set()
    eventually(lambda: engine.batch_delay() == 0)
    [outcome] = engine.step().outcomes
    assert isinstance(outcome, Failed)
    assert (outcome.id, outcome.code) == ("long", "prompt_too_long")
    assert engine.pending() == 0


def test_a_long_prompt_that_fits_is_served(tmp_path: Path) -> None:
    path = save_causal(tmp_path, **LLAMA)
    engine = unbounded(path)
    text = "".join(chr(0x100 + n % 50) for n in range(LONG + 1))
    engine._validators[""]._limits = engine._validators[""]._limits.model_copy(
        update={"max_prompt_tokens": 100_000, "max_new_tokens": 4}
    )
    engine._validators[""]._context = None
    engine.admit(Work("x", text, {}, 0))
    ids = engine._validators[""]._tokenizer(text)["input_ids"]

    eventually(lambda: engine.batch_delay() == 0)
    engine._intake.take_in()

    assert engine._sequences["x"].tokens == ids


def test_a_job_may_leave_while_it_is_read_and_come_again(llama: Path) -> None:
    engine = unbounded(llama)
    go = threading.Event()
    reading(engine, go)
    engine.admit(Work("x", FILLER, {}, 0))
    with pytest.raises(InputRefused):
        engine.admit(Work("x", "again", {}, 0))
    engine.cancel("x")
    assert engine.pending() == 0

    engine.admit(Work("x", "a", {"max_new_tokens": 2}, 0))
    go.set()

    assert drive(engine).finished("x").usage["completion_tokens"] == 2


def test_what_breaks_while_a_prompt_is_read_ends_that_job_alone(llama: Path) -> None:
    engine = unbounded(llama)

    def breaks(work: Work) -> list[int]:
        raise RuntimeError("no more")

    read, engine._validators[""].read = engine._validators[""].read, breaks  # type: ignore[method-assign]
    engine.admit(Work("x", FILLER, {}, 0))
    engine._validators[""].read = read  # type: ignore[method-assign]

    ran = drive(engine, [Work("y", "a", {"max_new_tokens": 2}, 0)])

    broke = ran.outcomes["x"]
    assert isinstance(broke, Failed)
    assert (broke.code, broke.at_admission) == ("poison_input", True)
    assert broke.message == "The model fails on this input: RuntimeError"
    assert ran.finished("y")
