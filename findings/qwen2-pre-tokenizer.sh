#!/bin/sh
# transformers: AutoTokenizer replaces the pre-tokenizer that tokenizer.json names, for 48 tokenizer classes.
#
# Classes with a constructor of their own (Qwen2Tokenizer, also for model_type qwen3_5 and others) take vocabulary
# and merges from tokenizer.json and build normalizer, pre-tokenizer and decoder themselves. A qwen2 model whose
# tokenizer.json splits digits in groups of three is given its digits one by one, without a warning.
#
# seen (transformers 5.23.0, tokenizers 0.23.3):
#   llama    TokenizersBackend    AutoTokenizer ['123']  tokenizer.json ['123']
#   qwen2    Qwen2Tokenizer       AutoTokenizer ['1', '2', '3']  tokenizer.json ['123']
#   qwen3_5  Qwen3_5Tokenizer     AutoTokenizer ['1', '2', '3']  tokenizer.json ['123']
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3
"$folder/venv/bin/python" - "$folder" <<'PY'
import json, sys, tokenizers, transformers
from pathlib import Path
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

path = Path(sys.argv[1])
made = Tokenizer(models.BPE())
made.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split(Regex(r"\d{1,3}|\D+"), "isolated"),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
made.decoder = decoders.ByteLevel()
made.train_from_iterator(["123 " * 9], trainers.BpeTrainer(
    vocab_size=260, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
made.save(str(path / "tokenizer.json"))
print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
differ = 0
for kind in ("llama", "qwen2", "qwen3_5"):
    (path / "config.json").write_text(json.dumps({"model_type": kind}))
    found = transformers.AutoTokenizer.from_pretrained(path)
    auto, file = found.tokenize("123"), made.encode("123").tokens
    print(f"{kind:8} {type(found).__name__:20} AutoTokenizer {auto}  tokenizer.json {file}")
    differ += kind.startswith("qwen") and auto != file
raise SystemExit(differ != 2)
PY
