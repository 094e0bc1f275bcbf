"""LitServe batching a sentence encoder, as its documentation on batching shows.

`POST /predict` with {"input": [text, …]}; the answer is {"embeddings": [vector, …]}. All texts of a batch of
requests are padded to the longest. `python -m bench.peers.litserve_minilm FOLDER PORT BATCH`.
"""

import sys
from typing import Any

import litserve as ls
import torch
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

THREADS = 1
BATCH_SECONDS = 0.02
SECONDS = 300.0
"""Within which a request must be answered: LitServe's default of 30 is short for lists on a slow machine."""
LIMIT = 256
"""Tokens of the longest text that the model takes."""


class MiniLm(ls.LitAPI):  # type: ignore[misc]
    def __init__(self, folder: str, **options: Any) -> None:
        super().__init__(**options)
        self._folder = folder

    def setup(self, device: str) -> None:
        torch.set_num_threads(THREADS)
        self._tokenizer = AutoTokenizer.from_pretrained(self._folder)
        self._model = AutoModel.from_pretrained(self._folder, dtype=torch.float32).to(device).eval()

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request["input"]

    def batch(self, inputs: list[list[str]]) -> list[list[str]]:
        return inputs

    def predict(self, given: Any) -> Any:
        """The texts of several requests; with batches of one LitServe hands over a single one's."""
        return self._encode(given) if self.max_batch_size > 1 else self._encode([given])[0]

    @torch.inference_mode()
    def _encode(self, requests: list[list[str]]) -> list[list[list[float]]]:
        """The normalized means of the tokens' vectors."""
        texts = [text for request in requests for text in request]
        inputs = self._tokenizer(
            texts, return_tensors="pt", padding=True, truncation=True, max_length=LIMIT
        )
        hidden = self._model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].to(hidden.dtype)
        vectors = functional.normalize((hidden * mask).sum(1) / mask.sum(1)).tolist()
        rows = iter(vectors)
        return [[next(rows) for _ in request] for request in requests]

    def unbatch(self, outputs: list[list[list[float]]]) -> list[list[list[float]]]:
        return outputs

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return {"embeddings": output}


if __name__ == "__main__":
    _, folder, port, batch = sys.argv
    minilm = MiniLm(folder, max_batch_size=int(batch), batch_timeout=BATCH_SECONDS)
    ls.LitServer(minilm, accelerator="cpu", timeout=SECONDS).run(
        host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning"
    )
