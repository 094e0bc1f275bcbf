#!/bin/sh
# transformers: a RoBERTa decoder gets other positions from `generate` than from its forward pass.
#
# The forward pass counts from padding_idx + 1, as RoBERTa was trained; `generate` hands over position_ids that
# count from 0, and the model takes them as they are. The greedy texts of the two differ. No padding is involved.
#
# seen (transformers 5.23.0, torch 2.13.0, CPU):
#   generate:       [67, 27, 67, 45, 67, 1, 4, 45]
#   forward passes: [67, 67, 67, 56, 67, 56, 1, 56]
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet transformers==5.23.0
"$folder/venv/bin/python" - <<'PY'
import torch, transformers
from transformers import RobertaConfig, RobertaForCausalLM

torch.manual_seed(0)
config = RobertaConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                       num_attention_heads=4, is_decoder=True, pad_token_id=1, initializer_range=0.35)
model = RobertaForCausalLM(config).eval()
with torch.no_grad():
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(0, 0.35)
ids = torch.randint(3, 96, (1, 20))
with torch.inference_mode():
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False,
                          eos_token_id=None)[0, 20:].tolist()
    text = ids
    for _ in range(8):
        text = torch.cat([text, model(input_ids=text).logits[:, -1:].argmax(-1)], 1)
print("transformers", transformers.__version__, "torch", torch.__version__)
print("generate:      ", made)
print("forward passes:", text[0, 20:].tolist())
raise SystemExit(made == text[0, 20:].tolist())
PY
