#!/bin/sh
# transformers: with `sliding_window: 1` a Mistral that decodes with its cache looks at more than one token.
#
# By the mask of a forward pass over the whole text each token sees itself alone. `generate` keeps keys of earlier
# tokens in its cache all the same, so its greedy text is another one. With a window of 2 both say the same.
#
# seen (transformers 5.23.0, torch 2.13.0, CPU):
#   window 1, generate:       [63, 47, 53, 48, 14, 79, 47, 16]
#   window 1, forward passes: [63, 54, 25, 73, 79, 79, 79, 79]
#   window 2, generate:       [68, 52, 27, 42, 17, 69, 69, 73]
#   window 2, forward passes: [68, 52, 27, 42, 17, 69, 69, 73]
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet transformers==5.23.0
"$folder/venv/bin/python" - <<'PY'
import torch, transformers
from transformers import MistralConfig, MistralForCausalLM


def texts(window):
    torch.manual_seed(0)
    config = MistralConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                           num_attention_heads=4, num_key_value_heads=2, head_dim=8, sliding_window=window)
    model = MistralForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.35)
    ids = torch.randint(3, 96, (1, 6))
    with torch.inference_mode():
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False,
                              eos_token_id=None)[0, 6:].tolist()
        text = ids
        for _ in range(8):
            text = torch.cat([text, model(input_ids=text, use_cache=False).logits[:, -1:].argmax(-1)], 1)
    print(f"window {window}, generate:      ", made)
    print(f"window {window}, forward passes:", text[0, 6:].tolist())
    return made == text[0, 6:].tolist()


print("transformers", transformers.__version__, "torch", torch.__version__)
one, two = texts(1), texts(2)
raise SystemExit(one or not two)
PY
