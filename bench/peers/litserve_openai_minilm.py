"""LitServe serving a sentence encoder in OpenAI's form, as its `OpenAIEmbeddingSpec` documents.

A request's texts are one batch, for the form takes no list of texts where the server batches requests.
`python -m bench.peers.litserve_openai_minilm FOLDER PORT 1`.
"""

import sys

import litserve as ls

from bench.peers.litserve_minilm import MiniLm

SECONDS = 300
"""For which a request may wait: LitServe answers 504 after 30 otherwise."""


class Embeddings(MiniLm):
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request.ensure_list()

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return {"embeddings": output}


if __name__ == "__main__":
    _, folder, port, batch = sys.argv
    minilm = Embeddings(folder, max_batch_size=int(batch), spec=ls.OpenAIEmbeddingSpec())
    ls.LitServer(minilm, accelerator="cpu", timeout=SECONDS).run(
        host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning"
    )
