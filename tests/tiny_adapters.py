"""Random LoRA adapters of tiny models, written by peft itself."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from shared.domain.models.catalog import Adapter, ModelSpec

ATTENTION_AND_MLP = ["q_proj", "v_proj", "down_proj"]


def save_adapter(base: Path, folder: Path, *, seed: int = 1, **options: Any) -> Path:
    """An adapter of the model in `base` that changes its texts. `options` are those of `LoraConfig`."""
    fields: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION_AND_MLP}
    config = LoraConfig(task_type="CAUSAL_LM", **(fields | options))
    torch.manual_seed(seed)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_B" in name:
                weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


def of_peft(base: Path, adapter: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The model with the adapter, as peft runs it."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    return PeftModel.from_pretrained(model, adapter).eval()


def with_adapters(spec: ModelSpec, **paths: Path) -> ModelSpec:
    """A base's entry whose hosts serve adapters too, by their entries' names."""
    adapters = tuple(
        Adapter(name=name, path=path, limits=spec.limits) for name, path in paths.items()
    )
    return spec.model_copy(update={"adapters": adapters})


def edit_config(adapter: Path, **fields: Any) -> Path:
    """Change what an adapter's configuration says."""
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | fields), "utf-8")
    return adapter
