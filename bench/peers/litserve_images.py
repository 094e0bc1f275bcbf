"""LitServe batching an image classifier, with a transformers pipeline as its documentation shows.

`POST /predict` with {"image": base64}; the answer is {"classes": [{label, score}, …]}.
`python -m bench.peers.litserve_images FOLDER PORT BATCH`.
"""

import base64
import io
import sys
from typing import Any

import litserve as ls
import torch
from PIL import Image
from transformers import pipeline

THREADS = 1
BATCH_SECONDS = 0.02


class Images(ls.LitAPI):  # type: ignore[misc]
    def __init__(self, folder: str, **options: Any) -> None:
        super().__init__(**options)
        self._folder = folder

    def setup(self, device: str) -> None:
        torch.set_num_threads(THREADS)
        self._pipe = pipeline("image-classification", model=self._folder, device=device)

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return Image.open(io.BytesIO(base64.b64decode(request["image"]))).convert("RGB")

    def batch(self, inputs: list[Any]) -> list[Any]:
        return list(inputs)

    def predict(self, images: Any) -> Any:
        """The classes of several images; with batches of one LitServe hands over a single one."""
        if self.max_batch_size > 1:
            return self._pipe(images, batch_size=len(images))
        return self._pipe(images)

    def unbatch(self, outputs: list[Any]) -> list[Any]:
        return outputs

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return {"classes": output}


if __name__ == "__main__":
    _, folder, port, batch = sys.argv
    images = Images(folder, max_batch_size=int(batch), batch_timeout=BATCH_SECONDS)
    ls.LitServer(images, accelerator="cpu").run(
        host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning"
    )
