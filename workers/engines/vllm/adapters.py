"""LoRA adapters beside a model that vLLM serves: read and checked here, computed there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import ModelSpec
from workers.engines.loading.lora_file import read_lora

RANKS = (8, 16, 32, 64, 128, 256)
"""Largest ranks that vLLM can be set up for, as far as adapters may have them."""
SPARE_PLACES = 1
"""Places for adapters beyond those that are taken: on a CPU vLLM gives rows without an adapter the share of
its last place (`findings/vllm-cpu-adapter-of-others.sh`), which so stays empty.
"""


@dataclass(frozen=True, slots=True)
class VllmAdapters:
    """Adapters by their entry's name: the rank of each, vLLM's request for it once that has read it, and why
    one is not served.
    """

    ranks: dict[str, int] = field(default_factory=dict)
    requests: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """For vLLM's `EngineArgs`: room for all of them at once."""
        if not self.ranks:
            return {}
        largest = max(self.ranks.values())
        return {
            "enable_lora": True,
            "max_loras": len(self.ranks) + SPARE_PLACES,
            "max_lora_rank": next(rank for rank in RANKS if rank >= largest),
        }

    def check_places(self, arguments: Mapping[str, Any], kind: str, where: str) -> None:
        """Raise `ConfigError` where `options` leave rows without an adapter somebody's share.

        `arguments` are for vLLM's `EngineArgs`, `kind` is what it computes on.
        """
        least = len(self.ranks) + SPARE_PLACES
        if kind == "cpu" and self.ranks and int(arguments["max_loras"]) < least:
            raise ConfigError(
                f"{where}.options.max_loras: on a CPU vLLM gives rows without an adapter the share of its"
                f" last place, so {len(self.ranks)} adapters need {least}, one of which stays empty; got"
                f" {arguments['max_loras']}; leave it out"
            )

    def hand_over(self, spec: ModelSpec, lora: Any, engine: Any) -> None:
        """Have an engine read them. `lora` is vLLM's `LoRARequest`."""
        for number, one in enumerate(spec.adapters, 1):
            if one.name not in self.ranks:
                continue
            request = lora(one.name, number, str(one.path))
            try:
                engine.add_lora(request)
            except Exception as error:  # noqa: BLE001 - whatever it raises, the others are served
                self.refused[one.name] = f"models.{one.name}.adapter: vLLM refuses it: {error}"
            else:
                self.requests[one.name] = request


def read_adapters(spec: ModelSpec, path: Path) -> VllmAdapters:
    """Those of a model in the directory `path`; checked against a copy of it that has no weights."""
    found = VllmAdapters()
    if not spec.adapters:
        return found
    config = AutoConfig.from_pretrained(
        str(path), local_files_only=True, trust_remote_code=False
    ).get_text_config()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    for one in spec.adapters:
        try:
            found.ranks[one.name] = read_lora(one.path, model, f"models.{one.name}.adapter").rank
        except ConfigError as error:
            found.refused[one.name] = error.detail
    return found
