#!/bin/sh
# tokenizers' ByteFallback decoder (Llama 2, Mistral, Gemma 2 kinds): one byte of a character that is not whole yet
# turns the whole characters beside it into U+FFFD, too. A server that streams by decoding what it has and taking
# off a trailing U+FFFD shows "é" and takes it back, or loses it where the text ends in the middle of a character.
# seen (tokenizers 0.23.3, Python 3.11): 'é' alone is 'é'; 'é' and the first byte of an emoji are '\ufffd\ufffd\ufffd';
# seen: with all four bytes of the emoji 'é🎉' is back.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PYTHON'
from tokenizers import Tokenizer, decoders, models

bytes_ = {f"<0x{byte:02X}>": byte for byte in range(256)}
tokenizer = Tokenizer(models.BPE(bytes_, [], byte_fallback=True))
tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
whole, emoji = list("é".encode()), list("🎉".encode())
alone, cut, both = (tokenizer.decode(ids) for ids in (whole, whole + emoji[:1], whole + emoji))
print(ascii(alone), ascii(cut), ascii(both))
assert (alone, cut, both) == ("é", "\ufffd" * 3, "é🎉"), "the behaviour has changed"
PYTHON
