#!/usr/bin/env bash
# transformers drops null members of messages before it renders a chat. A template that asks if `content` is
# null, as DeepSeek's of V3 and R1 do for messages that call tools, then takes the call for an answer: the call
# is not in the prompt, and nothing is raised. Rendered with the null kept, it is there.
#
# seen on Python 3.11 with transformers 5.23.0, jinja2 3.1.6:
# seen apply_chat_template: 'user: q;assistant: ;tool: 42;'
# seen with the null kept:  'user: q;<call>lookup</call>tool: 42;'
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "transformers==5.23.0" "jinja2==3.1.6"
"$folder/venv/bin/python" - <<'PYTHON'
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, __version__
from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'assistant' and m.content is none %}"
    "{% for c in m.tool_calls %}<call>{{ c.function.name }}</call>{% endfor %}"
    "{% else %}{{ m.role }}: {{ m.content }};{% endif %}"
    "{% endfor %}"
)
MESSAGES = [
    {"role": "user", "content": "q"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "lookup", "arguments": {}}}],
    },
    {"role": "tool", "content": "42"},
]
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
)
tokenizer.chat_template = TEMPLATE
dropped = tokenizer.apply_chat_template(MESSAGES, tokenize=False)
[kept], _ = render_jinja_template(conversations=[MESSAGES], chat_template=TEMPLATE)
print("transformers", __version__)
print("apply_chat_template:", repr(dropped))
print("with the null kept: ", repr(kept))
assert "lookup" not in dropped and "lookup" in kept, "the behaviour has changed"
PYTHON
