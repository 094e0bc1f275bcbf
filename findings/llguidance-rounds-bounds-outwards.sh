#!/bin/sh
# llguidance's JSON schemas: a bound of a number with 16 or more digits is rounded, outwards too, so a text that
# breaks the schema is allowed. {"maximum": 0.9999999999999999} takes 1, {"maximum": 99.99999999999999} takes 100;
# with 15 digits both are refused. Who computes bounds in floats (1 - 2**-53, 0.1 + 0.2) meets it.
# seen (llguidance 1.9.1, Python 3.11): "maximum 0.9999999999999999: 1 is allowed"
# seen: "maximum 99.99999999999999: 100 is allowed"
# seen: "maximum 0.999999999999999: 1 is refused"
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet llguidance==1.9.1
"$folder/venv/bin/python" - <<'PYTHON'
import json

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper


class Bytes:
    eos_token_id, bos_token_id = 256, None
    tokens = [*(bytes([byte]) for byte in range(256)), b"<end>"]
    special_token_ids = [256]

    def __call__(self, text):
        return list(text if isinstance(text, bytes) else text.encode())


tokens = LLTokenizer(TokenizerWrapper(Bytes()))


def allows(schema, text):
    matcher = LLMatcher(tokens, LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    assert not matcher.is_error(), matcher.get_error()
    return matcher.try_consume_tokens(list(text.encode())) == len(text) and matcher.is_accepting()


expected = {(0.9999999999999999, "1"): True, (99.99999999999999, "100"): True, (0.999999999999999, "1"): False}
for (bound, text), allowed in expected.items():
    found = allows({"type": "number", "maximum": bound}, text)
    print(f"maximum {bound}: {text} is {'allowed' if found else 'refused'}")
    assert found is allowed, "the behaviour has changed"
PYTHON
