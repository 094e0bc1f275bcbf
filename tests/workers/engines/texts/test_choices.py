"""Several texts of one prompt: each is its own, the prompt is computed once, and each resumes by itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from shared.domain.errors import InputRefused
from shared.domain.models.catalog import Batch
from tests.conftest import by_turns
from tests.engine_driver import Ran, drive, prefix_of, resumed
from tests.tiny_models import text_spec
from tests.zoo.models import tokenizer
from tests.zoo.table import STACKED
from workers.engines.base import Failed, Work
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.forward.stacked.runner import StackedRunner

PROMPT = "The quick brown fox jumps over the lazy dog. " * 2
SAMPLED = {"max_new_tokens": 12, "temperature": 0.9}


def loaded(path: Path, **options: Any) -> TextGeneration:
    engine = TextGeneration(text_spec(path, **options))
    engine.load()
    return engine


@pytest.fixture(scope="module")
def engine(llama: Path) -> TextGeneration:
    return loaded(llama, batch=Batch(max_size=8, token_budget=64))


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> TextGeneration:
    """Attention beside a state space, whose states a text cannot be cut back to."""
    path = tmp_path_factory.mktemp("falcon")
    STACKED["falcon_h1"].make().save_pretrained(path)
    tokenizer().save_pretrained(path)
    return loaded(path, batch=Batch(max_size=4, token_budget=64))


def work(n: int, job_id: str = "x", **params: Any) -> Work:
    return Work(job_id, PROMPT, SAMPLED | {"n": n} | params, seed=11)


def in_words(one: Work) -> Work:
    """The same for the stacked model, which has another tokenizer: its prompt as ids."""
    return replace(one, content=[7, 30, 7, 11, 90, 2, 44, 3])


def texts(ran: Ran, job_id: str = "x") -> list[str]:
    return [choice["text"] for choice in ran.finished(job_id).output["choices"]]


def test_the_first_is_the_text_of_one_and_all_differ(engine: TextGeneration) -> None:
    alone = drive(engine, [work(1)]).finished("x")

    ran = drive(engine, [work(8)])

    output = ran.finished("x").output
    assert "choices" not in alone.output
    assert {k: v for k, v in output.items() if k != "choices"} == alone.output
    assert [choice["index"] for choice in output["choices"]] == list(range(8))
    assert output["choices"][0] == {"index": 0, **alone.output}
    assert len(set(texts(ran))) == 8
    for choice in range(8):
        assert ran.streamed("x", choice) == texts(ran)[choice]
    # Fewer choices are the first ones of more.
    assert texts(drive(engine, [work(3)])) == texts(ran)[:3]


def test_the_prompt_is_computed_once(engine: TextGeneration) -> None:
    other = loaded(engine._spec.path, batch=Batch(max_size=8, token_budget=64, prefix_reuse=False))  # type: ignore[arg-type]
    for one in (engine, other):
        usage = drive(one, [work(8, "y", max_new_tokens=1)]).finished("y").usage
        prompt = usage["prompt_tokens"]
        ran = drive(one, [replace(work(8, "z"), content="!" + PROMPT)])
        tokens = sum(share for step in ran.steps for share in step.shares.values())
        usage = ran.finished("z").usage
        made = usage["completion_tokens"]
        assert made == 8 * 12 and usage["total_tokens"] == usage["prompt_tokens"] + made
        # All but the last token of each text is run, and the prompt's last one for each of the others.
        assert tokens - usage["prompt_tokens"] == made - 8 + 7
        assert prompt == usage["prompt_tokens"] - 1


def test_cached_tokens_are_those_that_the_job_found_and_not_its_own(llama: Path) -> None:
    fresh = loaded(llama, batch=Batch(max_size=4, token_budget=64))
    first = drive(fresh, [work(4)]).finished("x").usage
    again = drive(fresh, [work(4)]).finished("x").usage
    assert first["cached_tokens"] == 0
    assert again["cached_tokens"] == first["prompt_tokens"] // 16 * 16


@pytest.mark.parametrize("slots", [1, 3])
def test_fewer_slots_than_texts_change_nothing(
    llama: Path, engine: TextGeneration, slots: int
) -> None:
    narrow = loaded(llama, batch=Batch(max_size=slots, token_budget=24))
    expected = drive(engine, [work(5)])

    ran = drive(narrow, [work(5), work(2, "y")])

    assert ran.finished("x").output == expected.finished("x").output
    assert texts(ran, "y") == texts(expected)[:2]


def test_they_do_not_depend_on_who_shares_the_batch(engine: TextGeneration) -> None:
    params: list[dict[str, Any]] = [
        {"stop": ["e"], "min_tokens": 4},
        {"logit_bias": {"7": 40}, "logprobs": True},
        {"bad_words": [" fox", "e"], "top_p": 0.9},
        {"temperature": 0.0},
    ]
    jobs = [replace(work(2, f"j{n}", **p), seed=n) for n, p in enumerate(params)]
    alone = [drive(engine, [job]).finished(job.id).output for job in jobs]

    ran = drive(engine, jobs)

    for job, output in zip(jobs, alone, strict=True):
        found = ran.finished(job.id).output
        for one, other in zip(found["choices"], output["choices"], strict=True):
            assert one["text"] == other["text"]
            assert one["finish_reason"] == other["finish_reason"]


def test_a_prompt_that_leaves_states_is_read_once_as_well(
    stacked: TextGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = stacked._runner
    assert isinstance(runner, StackedRunner)
    read: list[str] = []
    prefill = runner._prefill

    def noted(sequence: Any) -> Any:
        read.append(sequence.id)
        return prefill(sequence)

    alone = drive(stacked, [in_words(work(1))]).finished("x").output
    monkeypatch.setattr(runner, "_prefill", noted)
    ran = drive(stacked, [in_words(work(6))])

    # Two of them wait until others have ended.
    assert stacked._scheduler.slots == 4 and read == ["x"]
    assert ran.finished("x").output["choices"][0] == {"index": 0, **alone}
    assert len(set(texts(ran))) == 6
    assert texts(drive(stacked, [in_words(work(2))])) == texts(ran)[:2]


@pytest.mark.explores
@pytest.mark.parametrize(
    ("params", "kind"),
    by_turns(
        [{}, {"stop": ["e", "w3"], "min_tokens": 3}, {"logprobs": True}], ["packed", "stacked"]
    ),
)
def test_each_text_goes_on_where_it_was_whatever_was_streamed(
    engine: TextGeneration, stacked: TextGeneration, kind: str, params: dict[str, Any]
) -> None:
    used, one = engine, work(3, **params)
    if kind == "stacked":
        used, one = stacked, in_words(one)
    whole = drive(used, [one])
    pieces = whole.pieces["x"]

    for cut in range(0, len(pieces) + 1, 4 if kind == "packed" else 11):
        ran = drive(used, [resumed(one, pieces[:cut])])
        assert texts(ran) == texts(whole)
        assert (
            ran.finished("x").usage["completion_tokens"]
            == (whole.finished("x").usage["completion_tokens"])
        )
        for choice in range(3):
            both = [*pieces[:cut], *ran.pieces.get("x", [])]
            assert prefix_of(both, choice).text == texts(whole)[choice]


def test_one_of_them_may_be_far_ahead(engine: TextGeneration) -> None:
    whole = drive(engine, [work(3)])
    pieces = whole.pieces["x"]
    for ahead in range(3):
        said = [piece for piece in pieces if piece.choice == ahead]
        ran = drive(engine, [resumed(work(3), said)])
        assert texts(ran) == texts(whole)
        assert not any(piece.choice == ahead for piece in ran.pieces["x"])


def test_a_cancel_lets_all_of_them_go(engine: TextGeneration) -> None:
    engine.admit(work(8))
    for _ in range(4):
        engine.step()
    engine.cancel("x")
    assert engine.pending() == len(engine._sequences) == len(engine._scheduler) == 0
    assert len(engine._scheduler._free) == engine._scheduler.slots


def test_a_text_that_breaks_ends_its_job_alone(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = loaded(llama, batch=Batch(max_size=8, token_budget=64))
    expected = texts(drive(engine, [work(2, "y")]), "y")
    run = engine._runner.run

    def broken(chunks: Any) -> Any:
        rows, logits = run(chunks)
        for number, row in enumerate(rows):
            if row.sequence.id == "x#2" and row.sequence.generated == 5:
                logits[number] = torch.nan
        return rows, logits

    monkeypatch.setattr(engine._runner, "run", broken)
    ran = drive(engine, [work(4), work(2, "y")])

    assert isinstance(ran.outcomes["x"], Failed)
    assert texts(ran, "y") == expected
    assert engine.pending() == len(engine._sequences) == 0


@pytest.mark.parametrize("n", [0, 9])
def test_how_many_there_may_be(engine: TextGeneration, n: int) -> None:
    with pytest.raises(InputRefused, match="n must be from 1 to 8"):
        engine.admit(replace(work(1), params={"n": n or -1}))
    assert engine.pending() == 0
