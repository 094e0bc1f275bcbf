"""LitServe streaming a text model with its own batching, as its documentation on both shows.

`POST /predict` with a prompt and a number of tokens; the answer is a JSON line a token, {"token": id}, and
none once the answer is complete. A batch is stepped until its longest answer is there; the next one waits.
`python -m bench.peers.litserve_llama FOLDER PORT BATCH`.
"""

import sys
from collections.abc import Iterator
from typing import Any

import litserve as ls
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

Request = tuple[str, int]
"""A prompt, and how many tokens at most."""
THREADS = 1
BATCH_SECONDS = 0.02


class Llama(ls.LitAPI):  # type: ignore[misc]
    def __init__(self, folder: str, **options: Any) -> None:
        super().__init__(**options)
        self._folder = folder

    def setup(self, device: str) -> None:
        torch.set_num_threads(THREADS)
        self._tokenizer = AutoTokenizer.from_pretrained(self._folder, padding_side="left")
        self._model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=torch.float32)
        self._model.to(device).eval()
        self._stop = self._model.config.eos_token_id
        self._tokenizer.pad_token_id = self._stop

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request["prompt"], request["max_new_tokens"]

    @torch.inference_mode()
    def predict(self, requests: list[Request]) -> Iterator[list[int | None]]:
        """Greedy steps with a cache of keys and values; None for those that are complete."""
        inputs = self._tokenizer(
            [prompt for prompt, _ in requests], return_tensors="pt", padding=True
        )
        left = [most for _, most in requests]
        tokens, mask, cache = inputs["input_ids"], inputs["attention_mask"], None
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        while any(left):
            out = self._model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            made = out.logits[:, -1].argmax(-1)
            said = made.tolist()
            yield [token if n else None for n, token in zip(left, said, strict=True)]
            left = [
                max(0, n - 1) if token != self._stop else 0
                for n, token in zip(left, said, strict=True)
            ]
            tokens, cache = made[:, None], out.past_key_values
            mask = torch.cat([mask, torch.ones_like(tokens)], 1)
            places = places[:, -1:] + 1

    def encode_response(self, steps):  # type: ignore[no-untyped-def]
        for step in steps:
            yield ["" if token is None else {"token": token} for token in step]


if __name__ == "__main__":
    _, folder, port, batch = sys.argv
    llama = Llama(folder, stream=True, max_batch_size=int(batch), batch_timeout=BATCH_SECONDS)
    ls.LitServer(llama, accelerator="cpu").run(
        host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning"
    )
