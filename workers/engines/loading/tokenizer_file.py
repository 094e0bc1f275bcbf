"""Reads a tokenizer that cuts texts as its own `tokenizer.json` says.

Many tokenizer classes of transformers take vocabulary and merges from that file and build the rest
themselves; for a model whose file says something else they give other tokens than it was trained on.
"""

import importlib.util
import json
import logging
import re
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer

from shared.domain.errors import ConfigError
from workers.engines.loading.foreign_files import refuse_without_tokenizer
from workers.engines.loading.local_model import read_json

FILE = "tokenizer.json"
TEMPLATE = "chat_template.json"
VOCABULARIES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tiktoken.model")
"""What older models have instead, and packages that can read it."""
PROBES = (
    "The quick brown fox, isn't it? We'll see: they've 12345 and 6,789.50 of 3rd-party e-mails.",
    "  two  spaces\tand\ttabs \n\n lines\r\n   indented()\n",
    "def f(x):\n    return x**2 + 0x1F  # don't\n",
    "HELLO World I'M SHOUTING, HTTPServer2 camelCase snake_case",
    "naïve cafe\u0301 Zwölf A\u030angstro\u0308m ǅ ﬁne ① ＡＢＣ１２",
    "你好，世界！いろはにほへと 안녕하세요",
    "हिन्दी ภาษาไทย العربيّة שָׁלוֹם १२३",
    "👩\u200d👩\u200d👧 🎉🎉 …—“quoted” ½ \u00a0 \u200b !!??..,,;;",
    "a",
    " a",
)
"""Texts that tell ways of cutting apart: contractions, digits, spaces, case, marks, scripts, signs."""

_log = logging.getLogger(__name__)


def read_tokenizer(path: Path, where: str) -> Any:
    """The tokenizer of a model's directory, cutting as its file does.

    Raises `ConfigError` for one that cannot be read here, naming the package that is missing, and whatever
    transformers raises.
    """
    settings = read_json(path / "tokenizer_config.json", where)
    refuse_without_tokenizer(path, str(settings.get("tokenizer_class") or ""), where)
    _check_packages(path, where)
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        str(path), local_files_only=True, trust_remote_code=False
    )
    file = path / FILE
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if file.is_file() and isinstance(backend, Tokenizer):
        # A file may bring both; transformers sets them anew for every text that it is given.
        backend.no_padding()
        backend.no_truncation()
        _follow(backend, _as_configured(file, settings), f"{where}: {file}")
    if not getattr(tokenizer, "chat_template", None):
        # Where processors of models that also see keep it, and tokenizers do not look.
        tokenizer.chat_template = read_json(path / TEMPLATE, where).get("chat_template")
    return tokenizer


def _follow(backend: Tokenizer, wanted: Tokenizer, where: str) -> None:
    """Give `backend` the stages of `wanted` where the two cut differently."""
    apart = differing(backend, wanted)
    if apart is None:
        return
    backend.normalizer = wanted.normalizer
    backend.pre_tokenizer = wanted.pre_tokenizer
    backend.model = wanted.model
    backend.decoder = wanted.decoder
    _log.warning(
        "%s cuts %r in another way than transformers' class for it; the file is followed",
        where,
        apart,
    )
    still = differing(backend, wanted)
    if still is not None:
        raise ConfigError(
            f"{where} and transformers' tokenizer class disagree about {still!r}: add_prefix_space, added"
            " tokens or a normalizer in tokenizer_config.json contradict the file"
        )


def differing(one: Tokenizer, other: Tokenizer) -> str | None:
    """A text that two tokenizers cut differently, special tokens aside; None where none was found."""
    for text in PROBES:
        if _stages(one, text) != _stages(other, text):
            return text
        ids = other.encode(text, add_special_tokens=False).ids
        if one.encode(text, add_special_tokens=False).ids != ids:
            return text
        if one.decode(ids, skip_special_tokens=False) != other.decode(
            ids, skip_special_tokens=False
        ):
            return text
    return None


def _stages(tokenizer: Tokenizer, text: str) -> tuple[str, Any]:
    """What a vocabulary may hide: the normalised text and where it is split."""
    normal = text if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(text)
    if tokenizer.pre_tokenizer is None:
        return normal, None
    return normal, tokenizer.pre_tokenizer.pre_tokenize_str(normal)


def _as_configured(file: Path, settings: dict[str, Any]) -> Tokenizer:
    """The file's tokenizer, with what tokenizer_config.json says explicitly: that wins in transformers."""
    state = json.loads(file.read_text("utf-8"))
    state["truncation"] = state["padding"] = None
    bert = {
        "lowercase": settings.get("do_lower_case"),
        "strip_accents": settings.get("strip_accents"),
        "handle_chinese_chars": settings.get("tokenize_chinese_chars"),
    }
    prefix = settings.get("add_prefix_space")
    for stage in (*_parts(state.get("normalizer")), *_parts(state.get("pre_tokenizer"))):
        if stage.get("type") == "BertNormalizer":
            stage |= {name: value for name, value in bert.items() if value is not None}
        if stage.get("type") == "ByteLevel" and isinstance(prefix, bool):
            stage["add_prefix_space"] = prefix
    return Tokenizer.from_str(json.dumps(state))


def _parts(stage: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A stage, or those of a sequence of stages."""
    if not stage:
        return []
    inner = stage.get("normalizers") or stage.get("pretokenizers")
    return [part for one in inner for part in _parts(one)] if inner else [stage]


def _check_packages(path: Path, where: str) -> None:
    """Raise for a vocabulary that only a package can read that is not here."""
    if (path / FILE).is_file():
        return
    found = [name for name in VOCABULARIES if (path / name).is_file()]
    if not found:
        return
    wanted = ["tiktoken"] if _is_tiktoken(path / found[0]) else ["sentencepiece", "protobuf"]
    names = {"protobuf": "google.protobuf"}
    lacking = [name for name in wanted if not _installed(names.get(name, name))]
    if lacking:
        raise ConfigError(
            f"{where}: {path} has {found[0]} and no {FILE}; to read it, install {' and '.join(lacking)}"
            f" where the worker runs, or add a {FILE}"
        )


def _is_tiktoken(file: Path) -> bool:
    """Lines of base64 and a number; sentencepiece writes a protocol buffer under the same name."""
    with file.open("rb") as opened:
        return re.match(rb"[A-Za-z0-9+/=]+ \d+\r?\n", opened.read(256)) is not None


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
