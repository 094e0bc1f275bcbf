"""What the host may rely on, whichever engine it drives."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from transformers import AutoModelForSequenceClassification

from shared.domain.errors import PROBLEMS, InputRefused
from shared.domain.events import Prefix
from shared.domain.models.catalog import Batch, ModelSpec, PromptLookup
from shared.domain.outputs import OUTPUTS
from shared.domain.requests.params import PARAMS
from tests.conftest import every
from tests.engine_driver import Ran, drive, resumed
from tests.tiny_adapters import save_adapter, with_adapters
from tests.tiny_models import (
    LLAMA,
    WAYS,
    WIDE_HEADS,
    embedding_spec,
    save_causal,
    save_encoder,
    text_spec,
)
from workers.engines.base import Engine, EngineInfo, Work
from workers.engines.one_shot import OneShotModel
from workers.engines.registry import build
from workers.host.meter import Meter

PROMPTS = [
    "The quick brown fox",
    "jagen Viktor quer",
    "def main(argv: list[str]) -> int:",
    "いろはにほへと 🎉",
    "the lazy dog. The lazy dog",
    "a",
    "naïve café and 12 more words to make this one much longer than all the other prompts are",
]


class Spelling(OneShotModel):
    """A user's model: its first and last character as numbers."""

    def cost(self, item: Any) -> float:
        if not isinstance(item, str) or not item:
            raise InputRefused("The input must be a text.")
        return len(item)

    def predict(self, inputs: list[str]) -> list[Any]:
        rows = [[float(ord(text[0])), float(ord(text[-1]))] for text in inputs]
        return [{"embeddings": [row], "dimensions": 2} for row in rows]


@dataclass
class Case:
    """An engine that is loaded, how to make it work, and what it must refuse."""

    engine: Engine
    info: EngineInfo
    kind: str
    params: dict[str, Any]
    refused: list[Any]

    def work(self, job_id: str, prompt: str, **params: Any) -> Work:
        return Work(job_id, prompt, self.params | params, seed=len(prompt))

    def works(self, count: int) -> list[Work]:
        return [self.work(f"job-{n}", PROMPTS[n % len(PROMPTS)]) for n in range(count)]

    @property
    def says_text(self) -> bool:
        return self.kind not in {"embedding", "ranking", "pipeline", "one-shot"}


def _defaults(engine: str, **params: Any) -> dict[str, Any]:
    values: dict[str, Any] = PARAMS[engine].validate_python(params).model_dump()
    return values


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    ways = {
        kind: save_causal(tmp_path_factory.mktemp(kind), config, **sizes)
        for kind, (config, sizes) in WAYS.items()
    }
    return {
        **ways,
        "adapter": save_adapter(ways["packed"], tmp_path_factory.mktemp("adapter")),
        "sinks": save_causal(
            tmp_path_factory.mktemp("gpt-oss"),
            "GptOssConfig",
            **LLAMA | {"head_dim": 16, "num_local_experts": 4, "sliding_window": 16},
        ),
        "soft caps": save_causal(
            tmp_path_factory.mktemp("gemma2"),
            "Gemma2Config",
            **LLAMA | {"head_dim": 16, "sliding_window": 16},
        ),
        "choices": save_causal(tmp_path_factory.mktemp("choices"), **LLAMA),
        "held": save_causal(tmp_path_factory.mktemp("held"), **LLAMA),
        "vllm": save_causal(tmp_path_factory.mktemp("wide"), **WIDE_HEADS),
        "bert": save_encoder(
            tmp_path_factory.mktemp("bert"), pooling="mean_tokens", normalize=True
        ),
        "ranker": save_encoder(
            tmp_path_factory.mktemp("ranker"),
            kind=AutoModelForSequenceClassification,
            num_labels=1,
        ),
    }


def _spec(kind: str, folders: dict[str, Path]) -> ModelSpec:
    match kind:
        case "echo" | "echo-paced":
            return ModelSpec(name="echo", engine="echo", batch=Batch(max_size=4))
        case "one-shot":
            return ModelSpec(name="own", engine=f"{__name__}:Spelling", device="cpu")
        case "embedding":
            return embedding_spec(folders["bert"])
        case "pipeline":
            spec = embedding_spec(folders["ranker"], options={"task": "text-classification"})
            return spec.model_copy(update={"engine": "pipeline"})
        case "ranking":
            spec = embedding_spec(folders["ranker"])
            return spec.model_copy(update={"engine": "ranking"})
        case "adapter":
            spec = with_adapters(text_spec(folders["packed"]), tiny=folders["adapter"])
            return spec.model_copy(update={"base": "llama", "adapter": folders["adapter"]})
        case "vllm":
            return text_spec(folders["vllm"], engine="vllm", batch=Batch(max_size=4))
        case "lookup":
            drafting, lookup = "tests.workers.drafting:Drafting", PromptLookup(ngram=1)
            return text_spec(folders["packed"], engine=drafting, speculation=lookup)
        case _:
            return text_spec(folders[kind.removesuffix(", greedy")])


KINDS: dict[str, Callable[[], tuple[dict[str, Any], list[Any]]]] = {
    "echo": lambda: (_defaults("echo"), [7]),
    "echo-paced": lambda: (_defaults("echo", step_ms=0.01, repeat=2), [None]),
    "packed": lambda: (
        _defaults("text-generation", max_new_tokens=12, temperature=0.8, stop=["zq"]),
        [7, "", {"messages": [{"role": "user", "content": "no template"}]}, "x" * 2000],
    ),
    "adapter": lambda: (
        _defaults("text-generation", max_new_tokens=12, temperature=0.8),
        [7, "", "x" * 2000],
    ),
    "sinks": lambda: (
        _defaults("text-generation", max_new_tokens=12, temperature=0.8),
        ["", "x" * 2000],
    ),
    "soft caps": lambda: (_defaults("text-generation", max_new_tokens=12), ["", "x" * 2000]),
    "choices": lambda: (
        _defaults("text-generation", max_new_tokens=6, temperature=0.8, n=2, min_tokens=3),
        ["", "x" * 2000, [1, 400], [True], {"messages": []}],
    ),
    "stacked": lambda: (
        _defaults("text-generation", max_new_tokens=10, temperature=0.8, stop=["zq"]),
        ["", "x" * 2000],
    ),
    "stacked, greedy": lambda: (_defaults("text-generation", max_new_tokens=6), [7]),
    # An unknown grammar is compiled beside the loop, so what is refused is told as an outcome.
    "held": lambda: (
        _defaults(
            "text-generation", max_new_tokens=12, temperature=0.8, grammar={"regex": "[a-z ]{30,}"}
        ),
        [],
    ),
    "static": lambda: (_defaults("text-generation", max_new_tokens=6), ["", "x" * 2000]),
    "lookup": lambda: (_defaults("text-generation", max_new_tokens=24), ["", "x" * 2000]),
    # Greedy: vLLM's random numbers do not depend on the position alone.
    "vllm": lambda: (_defaults("vllm", max_new_tokens=12, stop=["zq"]), [7, "", "x" * 2000]),
    "one-shot": lambda: ({}, [7, ""]),
    "embedding": lambda: (_defaults("embedding"), [7, [], ["fine", "word " * 100]]),
    "pipeline": lambda: (_defaults("pipeline"), [7, "", {"image": "AAAA"}, "word " * 100]),
    "ranking": lambda: (
        _defaults("ranking"),
        [7, [], [["fine", "word " * 100]], {"query": "fine", "documents": []}],
    ),
}


VLLM_IS_HERE = importlib.util.find_spec("vllm") is not None


def test_the_vllm_engine_is_held_to_the_contract_too() -> None:
    if not VLLM_IS_HERE:
        pytest.skip(
            "THE CONTRACT OF THE vLLM ENGINE IS NOT TESTED: vLLM is not in this environment"
        )
    assert "vllm" in KINDS


@pytest.fixture(scope="module", params=[kind for kind in KINDS if kind != "vllm" or VLLM_IS_HERE])
def loaded(
    request: pytest.FixtureRequest, folders: dict[str, Path]
) -> tuple[str, Engine, EngineInfo]:
    """A kind of engine. It goes from test to test with whatever it remembers, as it does in a worker."""
    engine = build(_spec(request.param, folders))
    return request.param, engine, engine.load()


@pytest.fixture
def case(loaded: tuple[str, Engine, EngineInfo]) -> Iterator[Case]:
    kind, engine, info = loaded
    yield Case(engine, info, kind, *KINDS[kind]())
    assert engine.pending() == 0


def numbers(output: Any) -> list[float]:
    """What an engine that says no text has computed of one text."""
    if isinstance(output, list):
        return [row["score"] for row in output]
    found: list[float] = output["embeddings"][0] if "embeddings" in output else output["scores"]
    return found


def assert_text_is_whole(case: Case, ran: Ran, work: Work) -> None:
    output = ran.finished(work.id).output
    if not case.says_text:
        dimensions = output.get("dimensions", 1) if isinstance(output, dict) else 1
        assert len(numbers(output)) == dimensions
        return
    assert work.text + ran.streamed(work.id) == output["text"]
    before = (work.prefix, *work.further, Prefix())
    for choice in output.get("choices", ()):
        begun = before[min(choice["index"], len(before) - 1)].text
        assert begun + ran.streamed(work.id, choice["index"]) == choice["text"]
    assert output["finish_reason"] in {"stop", "length"}
    assert all(piece.text and piece.token_ids for piece in ran.pieces.get(work.id, []))


def test_a_step_is_charged_to_jobs_that_are_there(case: Case) -> None:
    works = case.works(4)
    ran = drive(case.engine, works)
    meter, ids = Meter(), {work.id for work in works}
    for step in ran.steps:
        assert set(step.shares) <= ids
        texts = case.params.get("n", 1) * len(step.shares)
        assert not step.shares or len(step.shares) <= step.batch_size <= texts
        meter.charge(step, 1.0, ids)
    assert all(meter.take(job_id) > 0 for job_id in ids)


def test_an_engine_says_what_it_is(case: Case) -> None:
    assert case.info.capacity >= 4
    if case.kind in WAYS:
        assert case.info.details["batching"] == case.kind
    assert case.info.continues is case.says_text
    assert case.engine.batch_delay() == 0.0


def test_every_job_ends_once_and_its_pieces_make_its_text(case: Case) -> None:
    works = case.works(case.info.capacity)

    ran = drive(case.engine, works)

    assert set(ran.outcomes) == {work.id for work in works}
    for work in works:
        assert_text_is_whole(case, ran, work)
        assert ran.finished(work.id).usage["batch_size"] >= 1
        if case.kind in OUTPUTS:
            OUTPUTS[case.kind].validate_python(ran.finished(work.id).output)


def test_an_idle_engine_steps_without_effect(case: Case) -> None:
    step = case.engine.step()

    assert (step.pieces, step.outcomes, step.batch_size) == ([], [], 0)


def test_jobs_that_come_one_by_one_get_what_they_get_alone(case: Case) -> None:
    works = case.works(7)
    alone = {work.id: drive(case.engine, [work]).finished(work.id).output for work in works}

    ran = Ran()
    for work in works:
        case.engine.admit(work)
        ran.take(case.engine.step())
    while case.engine.pending():
        ran.take(case.engine.step())

    for work in works:
        found = ran.finished(work.id).output
        if case.says_text:
            assert found == alone[work.id]
        else:
            assert numbers(found) == pytest.approx(numbers(alone[work.id]), abs=1e-5)


def test_a_canceled_job_is_gone_and_the_others_do_not_notice(case: Case) -> None:
    works = case.works(case.info.capacity)
    undisturbed = drive(case.engine, works)
    for work in works:
        case.engine.admit(work)

    ran = Ran()
    case.engine.cancel(works[0].id)
    assert case.engine.pending() == len(works) - 1
    ran.take(case.engine.step())
    canceled = {works[0].id}
    if works[1].id not in ran.outcomes:
        before = case.engine.pending()
        case.engine.cancel(works[1].id)
        canceled.add(works[1].id)
        assert case.engine.pending() == before - 1
    while case.engine.pending():
        ran.take(case.engine.step())

    assert set(ran.outcomes) == {work.id for work in works} - canceled
    for work in works:
        if work.id not in canceled and case.says_text:
            assert ran.text(work.id) == undisturbed.text(work.id)


def test_a_canceled_id_can_be_admitted_again(case: Case) -> None:
    work = case.work("again", PROMPTS[0])
    expected = drive(case.engine, [work]).finished("again").output

    case.engine.admit(work)
    case.engine.cancel("again")

    assert drive(case.engine, [work]).finished("again").output == expected


def test_an_unknown_cancel_is_ignored(case: Case) -> None:
    case.engine.admit(case.work("known", PROMPTS[0]))

    case.engine.cancel("unknown")

    assert case.engine.pending() == 1
    assert set(drive(case.engine).outcomes) == {"known"}


def test_refused_input_leaves_nothing_behind(case: Case) -> None:
    for content in case.refused:
        with pytest.raises(InputRefused) as refusal:
            case.engine.admit(replace(case.work("refused", ""), content=content))

        assert not PROBLEMS[refusal.value.code].retryable
        assert case.engine.pending() == 0
    case.engine.cancel("refused")


@pytest.mark.explores
def test_a_resumed_text_ends_as_the_uninterrupted_one(case: Case) -> None:
    if not case.info.continues:
        return  # and the host never gives it an earlier attempt's text
    for prompt in (PROMPTS[0], PROMPTS[3], PROMPTS[-1]):
        work = case.work("whole", prompt)
        whole = drive(case.engine, [work])
        pieces = whole.pieces.get("whole", [])

        # All over the first text, and at both ends and in the middle of the others.
        cuts = (
            {*every(2, range(len(pieces))), len(pieces)}
            if prompt is PROMPTS[0]
            else {0, 1, len(pieces) // 2, len(pieces)}
        )
        for cut in cuts:
            again = resumed(work, pieces[:cut])
            ran = drive(case.engine, [again])

            assert ran.finished("whole").output == whole.finished("whole").output
            assert_text_is_whole(case, ran, again)
            tokens = {"completion_tokens", "prompt_tokens"}
            for name in tokens & set(whole.finished("whole").usage):
                assert ran.finished("whole").usage[name] == whole.finished("whole").usage[name]
