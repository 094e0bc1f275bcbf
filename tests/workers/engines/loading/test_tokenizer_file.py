"""A tokenizer cuts texts as its file says, whatever class transformers has for the model."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

from shared.domain.errors import ConfigError
from tests.tiny_models import CORPUS, byte_level_tokenizer, wordpiece_tokenizer
from workers.engines.loading.tokenizer_file import PROBES, differing, read_tokenizer

TEXT = "In 2024 and 1234567 they'VE said: naïve cafe\u0301 HTTPServer2"


def byte_level(split: str | None, normalizer: Any = None) -> Tokenizer:
    """Bytes with merges of digits, so that it shows where digits are split."""
    tokenizer = Tokenizer(models.BPE())
    stages: list[Any] = [pre_tokenizers.Split(Regex(split), "isolated")] if split else []
    stages.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(stages)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [*CORPUS, "2024 1234567 12 123 1234 " * 9],
        trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False),
    )
    return tokenizer


def directory(path: Path, model_type: str, tokenizer: Tokenizer, **settings: Any) -> Path:
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def cut(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("kind", ["qwen2", "qwen3_5", "gpt2", "cohere", "gpt_neox", "llama"])
@pytest.mark.parametrize("split", [r"\d{1,3}|\D+", r"\s+|\S+"])
def test_the_file_is_followed_where_transformers_class_cuts_otherwise(
    tmp_path: Path, kind: str, split: str
) -> None:
    path = directory(tmp_path, kind, byte_level(split))
    raw = Tokenizer.from_file(str(path / "tokenizer.json"))

    found = read_tokenizer(path, "here")

    assert cut(found, TEXT) == raw.encode(TEXT, add_special_tokens=False).ids
    assert found.decode(cut(found, TEXT)) == TEXT


def test_qwen_is_one_whose_class_cuts_otherwise(tmp_path: Path, caplog: Any) -> None:
    path = directory(tmp_path, "qwen2", byte_level(r"\d{1,3}|\D+"))
    raw = Tokenizer.from_file(str(path / "tokenizer.json"))
    changed = AutoTokenizer.from_pretrained(path)

    with caplog.at_level(logging.WARNING):
        read_tokenizer(path, "here")

    assert cut(changed, TEXT) != raw.encode(TEXT, add_special_tokens=False).ids
    assert [r.message for r in caplog.records if "the file is followed" in r.message]


def test_a_normalizer_of_the_file_is_followed(tmp_path: Path) -> None:
    path = directory(tmp_path, "qwen2", byte_level(None, normalizers.Lowercase()))
    raw = Tokenizer.from_file(str(path / "tokenizer.json"))

    assert cut(read_tokenizer(path, "here"), TEXT) == raw.encode(TEXT).ids


def test_a_tokenizer_that_agrees_with_its_file_is_left_alone(tmp_path: Path, caplog: Any) -> None:
    byte_level_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')

    with caplog.at_level(logging.WARNING):
        read_tokenizer(tmp_path, "here")

    assert not [r for r in caplog.records if "followed" in r.message]


@pytest.mark.parametrize(("said", "lower"), [(None, False), (False, False), (True, True)])
def test_what_tokenizer_config_says_itself_wins(
    tmp_path: Path, said: bool | None, lower: bool
) -> None:
    tokenizer = Tokenizer.from_str(wordpiece_tokenizer().backend_tokenizer.to_str())
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    settings = {} if said is None else {"do_lower_case": said}
    path = directory(
        tmp_path, "bert", tokenizer, tokenizer_class="BertTokenizer", unk_token="[UNK]", **settings
    )

    found = read_tokenizer(path, "here")

    assert (cut(found, "The Quick") == cut(found, "the quick")) is lower


def test_probes_tell_apart_what_differs_only_where_it_splits() -> None:
    one, other = byte_level(r"\d{1,3}|\D+"), byte_level(r"\d|\D+")

    assert differing(one, other) in PROBES
    assert differing(one, one) is None


@pytest.mark.parametrize(
    ("file", "content", "package"),
    [
        ("tokenizer.model", b"\x0a\x0e\x0a\x05<unk>\x15\x00", "sentencepiece"),
        ("spiece.model", b"\x0a\x0e\x0a\x05<unk>\x15\x00", "sentencepiece"),
        ("tokenizer.model", b"IQ== 0\nIg== 1\n", "tiktoken"),
        ("tiktoken.model", b"IQ== 0\nIg== 1\n", "tiktoken"),
    ],
)
def test_the_package_that_a_vocabulary_needs_is_named(
    tmp_path: Path, file: str, content: bytes, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / file).write_bytes(content)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=f"no tokenizer.json; to read it, install {package}"):
        read_tokenizer(tmp_path, "here")
