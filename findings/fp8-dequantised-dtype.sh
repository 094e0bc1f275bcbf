#!/bin/sh
# transformers: an FP8 checkpoint loaded on a CPU with dtype=bfloat16 has weights in two formats and cannot run.
#
# Without a GPU the weights are dequantised ("we will default to dequantizing the model to bf16"), and come out as
# float32 whatever dtype says; all other weights are bfloat16. The first linear layer then raises.
#
# seen (transformers 5.23.0, torch 2.13.0, CPU):
#   asked for torch.bfloat16, got ['torch.bfloat16', 'torch.float32']
#   RuntimeError: expected m1 and m2 to have the same dtype, but got: float != c10::BFloat16
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 accelerate==1.15.0
CUDA_VISIBLE_DEVICES= "$folder/venv/bin/python" - "$folder/model" <<'PY'
import json, sys, torch, transformers
from pathlib import Path
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

path = Path(sys.argv[1])
LlamaForCausalLM(LlamaConfig(vocab_size=128, hidden_size=128, intermediate_size=256, num_hidden_layers=1,
                             num_attention_heads=2, num_key_value_heads=2)).save_pretrained(path)
weights = {}
for name, weight in load_file(path / "model.safetensors").items():
    if "proj" in name:
        blocks = weight.unfold(0, 128, 128).unfold(1, 128, 128)
        scales = blocks.abs().amax((-1, -2)) / 448
        wide = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
        weights[name], weights[name + "_scale_inv"] = (weight / wide).to(torch.float8_e4m3fn), scales
    else:
        weights[name] = weight
save_file(weights, path / "model.safetensors", {"format": "pt"})
config = json.loads((path / "config.json").read_text())
config["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
(path / "config.json").write_text(json.dumps(config))

model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16)
formats = sorted({str(p.dtype) for p in model.parameters()})
print("transformers", transformers.__version__, "torch", torch.__version__)
print("asked for torch.bfloat16, got", formats)
try:
    model(torch.arange(5)[None])
except RuntimeError as error:
    print("RuntimeError:", error)
    raise SystemExit(formats != ["torch.bfloat16", "torch.float32"])
print("it runs now")
raise SystemExit(1)
PY
