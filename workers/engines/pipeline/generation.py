"""Translation, summaries and text to text: transformers 5 has the models, but no pipelines for them."""

from typing import Any

import torch

from shared.domain.errors import InputRefused
from workers.engines.pipeline.tasks import Task

NAMES = {
    "translation": "translation_text",
    "summarization": "summary_text",
    "text2text-generation": "generated_text",
}
"""Under which name each task gave its text."""


class TextToText:
    """A model with a decoder, in the steps of a transformers pipeline: preprocess, forward, postprocess."""

    def __init__(self, task: Task, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._name = NAMES[task.name]

    def _sanitize_parameters(
        self,
        max_new_tokens: int | None = None,
        prefix: str = "",
        source_language: str | None = None,
        target_language: str | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        before = {"prefix": prefix, "source": source_language}
        forward = {"target": target_language}
        return before, {**forward, "max_new_tokens": max_new_tokens}, {}

    def preprocess(self, text: str, prefix: str = "", source: str | None = None) -> dict[str, Any]:
        """Tokens [1, T] of a text. Raises `InputRefused` for a language that the tokenizer does not know."""
        if source is not None:
            self._language(source)
            self.tokenizer.src_lang = source
        encoded = dict(self.tokenizer(prefix + text, return_tensors="pt", verbose=False))
        encoded.pop("token_type_ids", None)
        return encoded

    def forward(
        self, inputs: dict[str, Any], target: str | None = None, max_new_tokens: int | None = None
    ) -> dict[str, Any]:
        """Tokens [n, new] of n texts of one length."""
        options: dict[str, Any] = {}
        if target is not None:
            options["forced_bos_token_id"] = self._language(target)
        if max_new_tokens is not None:
            options["max_new_tokens"] = max_new_tokens
        inputs = {name: tensor.to(self.model.device) for name, tensor in inputs.items()}
        return {"output_ids": self.model.generate(**inputs, **options).cpu()}

    def postprocess(self, found: dict[str, torch.Tensor]) -> dict[str, str]:
        """The text that a row of tokens is."""
        return {self._name: self.tokenizer.decode(found["output_ids"][0], skip_special_tokens=True)}

    def _language(self, name: str) -> int:
        found = self.tokenizer.convert_tokens_to_ids(name)
        if found is None or found == self.tokenizer.unk_token_id:
            raise InputRefused(
                f"This model has no language {name!r}, as its tokenizer spells them."
            )
        return int(found)
