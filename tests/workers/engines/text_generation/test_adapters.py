"""LoRA adapters beside one base: each text is peft's, whoever shares its steps, to the last bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from transformers import AutoModelForCausalLM

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import Batch, PrefixCache, PromptLookup
from tests.engine_driver import drive, resumed
from tests.tiny_adapters import edit_config, of_peft, save_adapter, with_adapters
from tests.tiny_models import LLAMA, WAYS, byte_level_tokenizer, save_causal, text_spec
from tests.zoo.table import INDEXED
from workers.engines.base import Work
from workers.engines.loading.placement import Placement
from workers.engines.text_generation.adapters import Adapters
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.forward.packed.packing import packed_runner
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

PROMPT = "The quick brown fox jumps over the lazy dog. The quick brown"
NAMES = ("", "small", "large", "scaled")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("base"), **LLAMA)


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "small": save_adapter(base, folder / "small", seed=1),
        "large": save_adapter(
            base,
            folder / "large",
            seed=2,
            r=16,
            target_modules="all-linear",
            rank_pattern={"q_proj": 3},
            alpha_pattern={"layers.1.mlp.up_proj": 64},
        ),
        "scaled": save_adapter(
            base,
            folder / "scaled",
            seed=3,
            r=6,
            use_rslora=True,
            target_modules=["o_proj", "gate_proj"],
            layers_to_transform=[1],
        ),
    }


@pytest.fixture(scope="module")
def engine(base: Path, adapters: dict[str, Path]) -> TextGeneration:
    engine = TextGeneration(with_adapters(text_spec(base), **adapters))
    info = engine.load()
    assert info.refused == {}
    assert {name: said["adapter_rank"] for name, said in info.adapters.items()} == {
        "small": 4,
        "large": 16,
        "scaled": 6,
    }
    return engine


def works(**params: Any) -> list[Work]:
    return [
        Work(name or "base", PROMPT, {"max_new_tokens": 24} | params, seed=n, adapter=name)
        for n, name in enumerate(NAMES)
    ]


def test_greedy_texts_of_a_mixed_batch_are_those_of_peft(
    engine: TextGeneration, base: Path, adapters: dict[str, Path]
) -> None:
    ran = drive(engine, works())

    tokenizer = byte_level_tokenizer()
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    texts = []
    for name in NAMES:
        model = (
            of_peft(base, adapters[name]) if name else AutoModelForCausalLM.from_pretrained(base)
        )
        with torch.no_grad():
            said = model.generate(input_ids=ids, max_new_tokens=24, do_sample=False, pad_token_id=0)
        texts.append(tokenizer.decode(said[0, ids.shape[1] :]))
    assert [ran.text(name or "base") for name in NAMES] == texts
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("params", [{}, {"temperature": 0.9}])
def test_a_text_is_the_same_alone_in_company_and_resumed(
    engine: TextGeneration, params: dict[str, Any]
) -> None:
    together = drive(engine, works(**params))

    for work in works(**params):
        assert drive(engine, [work]).text(work.id) == together.text(work.id)
        again = resumed(work, together.pieces[work.id][:3])
        assert drive(engine, [again]).text(work.id) == together.text(work.id)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_do_not_depend_on_the_adapters_of_other_rows(
    base: Path, adapters: dict[str, Path], dtype: torch.dtype
) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype).eval()
    spec = with_adapters(text_spec(base), **adapters)
    loaded = Adapters(model, spec.adapters, torch.device("cpu"))
    with torch.inference_mode():
        runner, _ = packed_runner(model, Placement(torch.device("cpu"), dtype), slots=8, length=64)
    runner.adapters = loaded

    def logits(*names: str) -> dict[str, torch.Tensor]:
        chunks = []
        for slot, name in enumerate(names):
            tokens = list(range(10 * len(name), 10 * len(name) + 20))
            sequence = Sequence(str(slot), tokens, 20, 1, Sampling(seed=0), adapter=name)
            chunks.append(Chunk(sequence, slot, 0, 20))
        with torch.inference_mode():
            rows, found = runner.run(chunks)
        return {row.sequence.adapter: said for row, said in zip(rows, found, strict=True)}

    together = logits(*NAMES)
    for name in NAMES:
        assert torch.equal(logits(name)[name], together[name]), name
    assert torch.equal(logits("large", "")["large"], together["large"])
    with torch.inference_mode():
        expected = of_peft(base, adapters["large"], dtype)(input_ids=torch.arange(50, 70)[None])
    right = expected.logits[0, -1].float()
    assert (together["large"] - right).pow(2).mean().sqrt() < 0.05 * right.std()


def test_a_step_without_adapters_is_that_of_a_host_without_any(
    engine: TextGeneration, base: Path
) -> None:
    plain = TextGeneration(text_spec(base))
    plain.load()
    work = Work("w", PROMPT, {"max_new_tokens": 8, "logprobs": True}, seed=1)

    assert drive(engine, [work]).finished("w").output == drive(plain, [work]).finished("w").output


def test_a_beginning_is_shared_within_one_adapter_alone(
    base: Path, adapters: dict[str, Path]
) -> None:
    spec = with_adapters(text_spec(base, batch=Batch(max_size=8)), **adapters)
    engine = TextGeneration(spec.model_copy(update={"prefix_cache": PrefixCache(shared=[PROMPT])}))
    engine.load()

    def cached(adapter: str, tenant: str) -> int:
        work = Work("w", PROMPT + " fox", {"max_new_tokens": 4}, 1, salt=tenant, adapter=adapter)
        return drive(engine, [work]).finished("w").usage["cached_tokens"]

    assert cached("", "a") == 0
    assert cached("small", "a") == 0
    assert cached("large", "a") == 0
    assert cached("small", "a") == cached("small", "b") > 0


def test_an_adapters_own_limits_hold_for_its_jobs(base: Path, adapters: dict[str, Path]) -> None:
    spec = with_adapters(text_spec(base), small=adapters["small"])
    (small,) = spec.adapters
    limits = spec.limits.model_copy(update={"max_new_tokens": 2})
    small = small.model_copy(update={"limits": limits})
    engine = TextGeneration(spec.model_copy(update={"adapters": (small,)}))
    engine.load()

    ran = drive(engine, [Work("w", "a", {}, 1, adapter="small"), Work("v", "a", {}, 1)])

    assert ran.finished("w").usage["completion_tokens"] == 2
    assert ran.finished("v").usage["completion_tokens"] == spec.limits.max_new_tokens


def test_an_adapters_own_host_runs_its_jobs_with_it(
    engine: TextGeneration, base: Path, adapters: dict[str, Path]
) -> None:
    spec = with_adapters(text_spec(base), small=adapters["small"])
    alone = TextGeneration(
        spec.model_copy(update={"name": "small", "base": "tiny", "adapter": adapters["small"]})
    )
    alone.load()
    work = works()[1]

    said = drive(alone, [replace(work, adapter="")]).text("small")

    assert said == drive(engine, [work]).text("small")


def test_one_bad_adapter_leaves_base_and_others_served(
    base: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    bad = edit_config(save_adapter(base, tmp_path / "bad"), use_dora=True)
    spec = with_adapters(text_spec(base), bad=bad, small=adapters["small"])
    engine = TextGeneration(spec)

    info = engine.load()

    assert list(info.adapters) == ["small"]
    assert list(info.refused) == ["bad"]
    assert "models.bad.adapter: it uses use_dora" in info.refused["bad"]
    assert drive(engine, [works()[1]]).text("small")
    alone = TextGeneration(spec.model_copy(update={"name": "bad", "base": "tiny", "adapter": bad}))
    with pytest.raises(ConfigError, match="it uses use_dora"):
        alone.load()


def test_rows_of_a_stacked_base_have_the_texts_that_each_adapter_gives_alone(
    tmp_path: Path,
) -> None:
    config, sizes = WAYS["stacked"]
    path = save_causal(tmp_path / "base", config, **sizes)
    spec = with_adapters(
        text_spec(path),
        a=save_adapter(path, tmp_path / "a", target_modules=["in_proj", "q_proj", "w2"]),
        b=save_adapter(path, tmp_path / "b", seed=2, target_modules=["out_proj", "v_proj"]),
    )
    engine = TextGeneration(spec)
    info = engine.load()
    works = [
        Work(f"{name} {n}", prompt, {"max_new_tokens": 20}, seed=1, adapter=name)
        for name in ("", "a", "b")
        for n, prompt in enumerate((PROMPT, "naïve café!"))
    ]

    ran = drive(engine, works)

    assert info.details["batching"] == "stacked" and info.refused == {}
    assert len({ran.text(f"{name} 0") for name in ("", "a", "b")}) == 3
    tokenizer = byte_level_tokenizer()
    for work in works:
        model = of_peft(path, tmp_path / work.adapter) if work.adapter else None
        plain = model or AutoModelForCausalLM.from_pretrained(path)
        ids = tokenizer(str(work.content), return_tensors="pt")["input_ids"]
        made = plain.generate(ids, max_new_tokens=20, do_sample=False, pad_token_id=0)
        # Half a character at the end is left out.
        said = tokenizer.decode(made[0, ids.shape[1] :]).rstrip("\ufffd")
        assert ran.text(work.id) == said


def test_rows_of_a_base_with_indexers_have_the_adapters_of_their_own_there_too(
    tmp_path: Path,
) -> None:
    sizes = LLAMA | INDEXED | {"mlp_layer_types": ["dense"] * 2}
    path = save_causal(tmp_path / "base", "DeepseekV32Config", **sizes)
    parts = ["q_a_proj", "wq_b", "wk", "weights_proj"]
    spec = with_adapters(
        text_spec(path),
        a=save_adapter(path, tmp_path / "a", target_modules=parts),
        b=save_adapter(path, tmp_path / "b", seed=2, target_modules=parts),
    )
    engine = TextGeneration(spec)
    info = engine.load()
    works = [
        Work(name, PROMPT, {"max_new_tokens": 20}, seed=1, adapter=name) for name in ("", "a", "b")
    ]

    ran = drive(engine, works)

    assert info.details["batching"] == "stacked" and info.refused == {}
    assert len({ran.text(work.id) for work in works}) == 3
    for work in works:
        assert drive(engine, [work]).text(work.id) == ran.text(work.id)


def test_adapters_of_a_base_that_runs_one_by_one_are_refused(tmp_path: Path) -> None:
    config, sizes = WAYS["static"]
    path = save_causal(tmp_path / "base", config, **sizes)
    adapter = save_adapter(path, tmp_path / "a", target_modules=["o_proj"])

    info = TextGeneration(with_adapters(text_spec(path), a=adapter)).load()

    assert "runs one text after the other" in info.refused["a"]
    assert info.refused["a"].endswith("merge it into its base model")


def test_gpt2_layers_are_adapted_too(tmp_path: Path) -> None:
    path = save_causal(
        tmp_path / "gpt2", "GPT2Config", n_embd=64, n_layer=2, n_head=4, vocab_size=400
    )
    adapter = save_adapter(path, tmp_path / "a", target_modules=["c_attn", "c_fc"])
    engine = TextGeneration(with_adapters(text_spec(path), a=adapter))
    assert engine.load().refused == {}

    said = drive(engine, [Work("w", PROMPT, {"max_new_tokens": 16}, 1, adapter="a")]).text("w")

    tokenizer = byte_level_tokenizer()
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    found = of_peft(path, adapter).generate(input_ids=ids, max_new_tokens=16, do_sample=False)
    assert said == tokenizer.decode(found[0, ids.shape[1] :])


def test_prompt_lookup_leaves_the_texts_of_adapters_as_they_are(
    engine: TextGeneration, base: Path, adapters: dict[str, Path]
) -> None:
    spec = with_adapters(text_spec(base, speculation=PromptLookup(ngram=1)), **adapters)
    guessing = TextGeneration(spec)
    guessing.load()

    ran = drive(guessing, works())

    expected = drive(engine, works())
    assert [ran.text(work.id) for work in works()] == [expected.text(work.id) for work in works()]


def test_each_text_of_a_job_has_its_adapter(engine: TextGeneration) -> None:
    asked = works(n=2, temperature=0.9, max_new_tokens=8)

    ran = drive(engine, asked)

    for work in asked:
        alone = drive(engine, [work]).finished(work.id)
        assert alone.output == ran.finished(work.id).output
