#!/bin/sh
# bitsandbytes: with LLM.int8's default threshold a row's result depends on the other rows of its batch.
#
# Columns in which any row of the batch has a number above the threshold (6.0 by default, also in checkpoints that
# transformers saves) are multiplied in 16 bits, all others in 8, for every row. So whose request shares a step
# decides in which precision another one's columns are computed: logits move, and a causal model's logits move with
# tokens that come later in the text. With threshold 0 each row is computed by itself.
#
# seen (bitsandbytes 0.50.2, torch 2.13.0, CPU):
#   threshold 6: the row beside an outlier differs from the row alone by 0.00168
#   threshold 0: the row beside an outlier differs from the row alone by 0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet bitsandbytes==0.50.2
CUDA_VISIBLE_DEVICES= "$folder/venv/bin/python" - <<'PY'
import bitsandbytes, torch

torch.manual_seed(0)
found = {}
for threshold in (6.0, 0.0):
    layer = bitsandbytes.nn.Linear8bitLt(64, 64, bias=False, has_fp16_weights=False, threshold=threshold)
    layer.load_state_dict(torch.nn.Linear(64, 64, bias=False).state_dict())
    layer = layer.to("cpu").eval()
    row, company = torch.randn(1, 64), torch.randn(1, 64)
    company[0, :8] = 50.0
    with torch.inference_mode():
        alone, together = layer(row)[0], layer(torch.cat([row, company]))[0]
    found[threshold] = float((alone - together).abs().max())
    print(f"threshold {threshold:g}: the row beside an outlier differs from the row alone by {found[threshold]:.3g}")
raise SystemExit(not (found[6.0] > 0 and found[0.0] == 0))
PY
