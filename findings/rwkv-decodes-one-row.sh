#!/bin/sh
# transformers' RWKV cannot decode a batch: with a state, a step of one token shifts by a tensor of [rows, hidden]
# where hidden states are [rows, 1, hidden], and broadcasting gives every row the tokens of all rows before it. A
# batch of two equal-length prompts, no padding, makes other logits than each prompt alone; nothing is raised.
# Exits 0 while that is so.
#
# seen (transformers 5.23.0, torch 2.13.0 on a CPU):
#   logits of a decode step of two rows: (2, 2, 64)
#   largest difference from the rows alone: 0.0e+00 after the prompt, 5.3e+00 after the step
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet transformers==5.23.0

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
import transformers
from transformers import RwkvConfig, RwkvForCausalLM

print("transformers", transformers.__version__)
torch.manual_seed(0)
model = RwkvForCausalLM(RwkvConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, context_length=64))
with torch.no_grad():
    for tensor in model.parameters():
        if tensor.dim() > 1:
            tensor.normal_(0.0, 0.3)
model.eval()
prompts = torch.randint(64, (2, 8))
following = torch.randint(64, (2, 1))


@torch.inference_mode()
def decoded(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    read = model(prompts[rows], use_cache=True)
    step = model(following[rows], state=read.state, use_cache=True)
    return read.logits[:, -1], step.logits


read, step = decoded([0, 1])
alone = [decoded([row]) for row in (0, 1)]
print("logits of a decode step of two rows:", tuple(step.shape))
far = max(float((step[row, -1] - alone[row][1][0, -1]).abs().max()) for row in (0, 1))
near = max(float((read[row] - alone[row][0][0]).abs().max()) for row in (0, 1))
print(f"largest difference from the rows alone: {near:.1e} after the prompt, {far:.1e} after the step")
sys.exit(0 if near < 1e-4 and far > 1e-2 else 1)
PYTHON
