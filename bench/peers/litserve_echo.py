"""LitServe: requests go through queues in memory to one inference process. Nothing is kept.

`python -m bench.peers.litserve_echo PORT API_SERVERS MAX_BATCH_SIZE BATCH_TIMEOUT`; `POST /predict`.
"""

import sys

import litserve


class Single(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        """There is no model to load."""

    def decode_request(self, request: dict[str, str]) -> str:
        return request["prompt"]

    def predict(self, prompt: str) -> str:
        return prompt

    def encode_response(self, output: str) -> dict[str, str]:
        return {"text": output}


class Batched(Single):
    def predict(self, prompts: list[str]) -> list[str]:  # type: ignore[override]
        return prompts


def main() -> None:
    port, api_servers, size = (int(argument) for argument in sys.argv[1:4])
    echo = Single() if size == 1 else Batched(max_batch_size=size, batch_timeout=float(sys.argv[4]))
    server = litserve.LitServer(echo, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=api_servers,
        log_level="warning",
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
