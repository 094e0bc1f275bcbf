"""Models of other families are refused by their names, before anything is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from shared.domain.errors import ConfigError
from tests.tiny_models import LLAMA, byte_level_tokenizer, save_causal, save_encoder, text_spec
from workers.engines.registry import build

TINY: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "vocab_size": 400,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 0,
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 400}
ENCODER = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 400,
}


def saved(path: Path, architecture: str, config: str, **options: Any) -> Path:
    made = getattr(transformers, config)(**options)
    getattr(transformers, architecture)(made).save_pretrained(path)
    byte_level_tokenizer().save_pretrained(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        build(text_spec(path)).load()
    return error.value.detail


@pytest.mark.parametrize(
    ("architecture", "config", "options"),
    [
        ("WhisperForConditionalGeneration", "WhisperConfig", TINY),
        ("BartForConditionalGeneration", "BartConfig", TINY),
        ("MBartForConditionalGeneration", "MBartConfig", TINY),
        ("T5ForConditionalGeneration", "T5Config", T5),
    ],
)
def test_an_encoder_decoder_is_refused(
    tmp_path: Path, architecture: str, config: str, options: dict[str, Any]
) -> None:
    found = refusal(saved(tmp_path, architecture, config, **options))

    assert f"{architecture} is an encoder-decoder" in found


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("BertForMaskedLM", "BertConfig"),
        ("RobertaForMaskedLM", "RobertaConfig"),
        ("ElectraForPreTraining", "ElectraConfig"),
        ("XLMRobertaForSequenceClassification", "XLMRobertaConfig"),
    ],
)
def test_a_masked_language_model_is_refused(tmp_path: Path, architecture: str, config: str) -> None:
    found = refusal(saved(tmp_path, architecture, config, **ENCODER))

    assert f"{architecture} is no causal language model" in found


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    assert "BertModel is no causal language model" in refusal(save_encoder(tmp_path))


def test_a_family_without_causal_models_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, "DistilBertForMaskedLM", "DistilBertConfig", dim=32, n_layers=1,
                 n_heads=2, hidden_dim=32, vocab_size=400)  # fmt: skip

    assert "DistilBertForMaskedLM (distilbert) is no causal language model" in refusal(path)


def test_a_classifier_over_a_causal_body_is_refused(tmp_path: Path) -> None:
    options = LLAMA | {"tie_word_embeddings": True, "pad_token_id": 0}
    path = saved(tmp_path, "LlamaForSequenceClassification", "LlamaConfig", **options)

    assert "LlamaForSequenceClassification is no causal language model" in refusal(path)


def test_a_bidirectional_model_is_refused_whatever_it_is_called(tmp_path: Path) -> None:
    path = saved(tmp_path, "BertLMHeadModel", "BertConfig", **ENCODER, is_decoder=True)
    config = json.loads((path / "config.json").read_text()) | {"is_decoder": False}
    (path / "config.json").write_text(json.dumps(config))

    assert "BertLMHeadModel looks at the tokens that follow" in refusal(path)


@pytest.mark.parametrize("names", [["LLaMAForCausalLM"], None])
def test_a_causal_model_needs_no_exact_name(tmp_path: Path, names: list[str] | None) -> None:
    path = save_causal(tmp_path, **LLAMA)
    config = json.loads((path / "config.json").read_text()) | {"architectures": names}
    (path / "config.json").write_text(json.dumps(config))

    assert build(text_spec(path)).load().capacity
