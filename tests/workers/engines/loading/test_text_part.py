"""Models of several senses serve texts: as the whole model does, and without its towers in memory."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.engine_driver import drive
from tests.tiny_models import CHAT_TEMPLATE, byte_level_tokenizer, text_spec
from workers.engines.base import Work
from workers.engines.loading import pretrained
from workers.engines.loading.placement import place
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.families import auto_model_of

TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 400,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "initializer_range": 0.1,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
    "depth": 2,
    "num_heads": 2,
    "embed_dim": 32,
    "out_hidden_size": 64,
}
M_ROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mistral3": ({"model_type": "mistral"}, {"model_type": "pixtral"}),
    "qwen2_5_vl": ({"rope_parameters": M_ROPE}, {}),
    "qwen3_vl": ({"rope_parameters": M_ROPE}, {"deepstack_visual_indexes": [0]}),
    "qwen3_vl_moe": (EXPERTS | {"rope_parameters": M_ROPE}, {"deepstack_visual_indexes": [0]}),
    "gemma3": ({"sliding_window": 512}, {}),
    "llama4": ({"attention_chunk_size": 512, "num_local_experts": 2}, {}),
    "internvl": ({"model_type": "qwen2"}, {"model_type": "internvl_vision"}),
    "llava_next": ({"model_type": "mistral"}, {"model_type": "clip_vision_model"}),
    "idefics3": ({"model_type": "llama"}, {}),
    # Its class does not say that attention can be exchanged; that of its language model does.
    "deepseek_vl": ({"model_type": "llama"}, {}),
}
PROMPT = "The quick brown fox jumps over the lazy dog. Zwölf"


def save(folder: Path, kind: str) -> tuple[Path, Any]:
    """A random model of texts and images, and its directory."""
    text, vision = KINDS[kind]
    config = transformers.CONFIG_MAPPING[kind](
        text_config=TEXT | text, vision_config=VISION | vision
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(config).eval()
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    byte_level_tokenizer().save_pretrained(folder)
    return folder, model


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_those_of_the_whole_model(tmp_path: Path, kind: str) -> None:
    path, whole = save(tmp_path, kind)
    spec = text_spec(path)
    placement = place(spec)

    tokenizer, part = pretrained.read(auto_model_of(path, "w"), path, placement, "w")

    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = whole(input_ids=ids, use_cache=False).logits
        assert torch.equal(part(input_ids=ids, use_cache=False).logits, expected)
        said = whole.generate(input_ids=ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
    names = {name for name, _ in part.named_parameters()}
    assert names < {name for name, _ in whole.named_parameters()}
    assert not [name for name in names if "vision" in name or "visual" in name or "project" in name]
    engine = TextGeneration(spec)
    info = engine.serve(tokenizer, part, placement)
    assert info.details["batching"] == "packed", info.details
    ran = drive(engine, [Work("w", PROMPT, {"max_new_tokens": 12}, 1), Work("v", "a", {}, 1)])
    # Half a character at the end is left out.
    assert ran.text("w") == tokenizer.decode(said[0, ids.shape[1] :]).rstrip("\ufffd")


def test_the_whole_engine_loads_one_and_counts_its_language_part_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = save(tmp_path, "qwen2_5_vl")
    (path / "chat_template.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}), "utf-8")
    needs: list[int] = []
    fits = pretrained.fits_at_once

    def note(need: Any, *args: Any) -> bool:
        needs.append(need.weights)
        return fits(need, *args)

    monkeypatch.setattr(pretrained, "fits_at_once", note)
    engine = TextGeneration(text_spec(path))

    engine.load()

    chat = {"messages": [{"role": "user", "content": "fox"}]}
    asked = [Work("c", chat, {"max_new_tokens": 6}, 1), Work("p", "user: fox\nassistant:", {}, 1)]
    ran = drive(engine, asked)
    assert ran.text("p").startswith(ran.text("c"))
    stored = (path / "model.safetensors").stat().st_size
    assert 0 < needs[0] < 0.7 * stored
    assert not [record.message for record in caplog.records if record.levelname == "WARNING"]


def test_one_that_cannot_do_without_its_other_senses_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = save(tmp_path, "internvl")
    inner = transformers.InternVLModel

    def needs_vision(self: Any, *args: Any, **options: Any) -> Any:
        return self.vision_tower.dtype

    monkeypatch.setattr(inner, "forward", needs_vision)

    with pytest.raises(
        Exception, match="InternVLForConditionalGeneration cannot run on texts alone"
    ):
        TextGeneration(text_spec(path)).load()
