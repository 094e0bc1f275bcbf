"""Ray Serve: a proxy, and a replica a core that gathers its own requests. All in memory.

`python -m bench.peers.ray_serve_echo PORT REPLICAS MAX_BATCH_SIZE BATCH_WAIT_TIMEOUT`; `POST /`.
"""

import signal
import sys

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse


def echo(replicas: int, size: int, wait: float) -> serve.Deployment:
    """Room for two batches in a replica, as its guide to performance says."""

    @serve.deployment(
        num_replicas=replicas,
        max_ongoing_requests=2 * size,
        logging_config={"enable_access_log": False},
    )
    class Echo:
        @serve.batch(max_batch_size=size, batch_wait_timeout_s=wait)  # type: ignore[untyped-decorator]
        async def predict(self, prompts: list[str]) -> list[str]:
            return prompts

        async def __call__(self, request: Request) -> JSONResponse:
            document = await request.json()
            return JSONResponse({"text": await self.predict(document["prompt"])})

    return Echo


def main() -> None:
    port, replicas, size = (int(argument) for argument in sys.argv[1:4])
    ray.init(include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(echo(replicas, size, float(sys.argv[4])).bind())
    signal.pause()  # SIGTERM ends Ray, and with it all that it has started


if __name__ == "__main__":
    main()
