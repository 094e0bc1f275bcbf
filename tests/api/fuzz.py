"""`python -m tests.api.fuzz REDIS_URL`: random HTTP streams to our worker and to gunicorn's own.

One side is this server's worker with its fast path and its response class; the other is gunicorn's
gevent worker as released, with every request going through Flask. Each has an app and keys of its own. Both
get the same bytes, cut at the same places, and must answer the same and keep or close the connection alike.
What differs by nature (ids, times, the server's name) is masked; of what is no HTTP only the refusal counts.
"""

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import re  # noqa: E402
import sys  # noqa: E402
from collections import Counter  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from gevent import socket  # noqa: E402
from gunicorn.config import Config  # noqa: E402
from gunicorn.workers.ggevent import GeventWorker  # noqa: E402

TOKEN = "fuzz-" + "t" * 32
ADDRESS = ("127.0.0.1", 8000)
MASKED = re.compile(
    rb"job_[0-9a-z]+|req_[0-9a-f]+|\d{4}-\d\d-\d\dT[\d:.]+Z|ticket=[\w.-]+|Date: [^\r]+|Server: [^\r]+|"
    rb"r=\d+;t=\d+|Content-Length: \d+"
)
REFUSED = re.compile(rb"HTTP/1\.[01] (4\d\d|501) ")
HELLO = json.dumps({"model": "echo", "prompt": "hello"}).encode()
BODIES = (
    *(HELLO, HELLO, HELLO, b"", b"{", b"[]", b'{"model":"nobody","prompt":"x"}'),
    *(
        b'{"model":"echo","prompt":"x","priority":7}',
        b'{"model":"echo","model":"echo"}',
        b"\xff\xfe",
    ),
)
TARGETS = (
    *("POST /v1/jobs",) * 6,
    *(
        "POST /v1/infer?timeout=0",
        "POST /v1/infer?timeout=x",
        "POST /v1/jobs?x=1",
        "POST /v1/nothing",
    ),
    *(
        "GET /health",
        "HEAD /health",
        "GET /v1/jobs?limit=1",
        "GET /v1/jobs/job_nobody",
        "PUT /v1/jobs",
    ),
    *("POST /v1//jobs", "POST /v1/%6Aobs", "POST http://a.example/v1/jobs", "OPTIONS /v1/jobs"),
)
HEADERS = (
    *("X-Request-ID: mine", "Idempotency-Key: one", "Idempotency-Key: two", "Prefer: wait=0"),
    *(
        "Connection: close",
        "Connection: keep-alive",
        "Expect: 100-continue",
        "Origin: https://a.example",
    ),
    *(
        "Cache-Control: no-store",
        "traceparent: 00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        "X-Odd: \xe9",
    ),
    *(
        "Host: other.example",
        "Content-Type: text/plain",
        "content-type: application/json; charset=utf-8",
    ),
    *(
        "Bad Name: x",
        "X-Folded: a\r\n b",
        "X-Empty:",
        ": nameless",
        "X-Null: a\x00b",
        "Content-Length: 3",
    ),
    *("Content-Length: -1", "Content-Length: 1x", "Transfer-Encoding: gzip", "Upgrade: h2c"),
)


def message(dice: random.Random) -> bytes:
    """A request, mostly right."""
    body = dice.choice(BODIES)
    version = "HTTP/1.0" if dice.random() < 0.05 else "HTTP/1.1"
    lines = [f"{dice.choice(TARGETS)} {version}"]
    if dice.random() < 0.97:
        lines.append("Host: a.example:8000")
    if dice.random() < 0.93:
        lines.append(f"Authorization: Bearer {TOKEN if dice.random() < 0.95 else 'wrong'}")
    if dice.random() < 0.95:
        lines.append("Content-Type: application/json")
    lines += dice.sample(HEADERS, k=dice.choice((0, 0, 0, 1, 1, 2, 3)))
    if dice.random() < 0.15:
        lines.append("Transfer-Encoding: chunked")
        cut = dice.randint(0, len(body))
        parts = [part for part in (body[:cut], body[cut:]) if part]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    elif body or dice.random() < 0.5:
        lines.append(f"Content-Length: {len(body)}")
    data = bytearray("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    if dice.random() < 0.1:
        data[dice.randrange(len(data))] = dice.choice(b"\x00\t\r\n :/aZ0\x7f\xff")
    return bytes(data)


def stream(dice: random.Random) -> list[bytes]:
    """Some requests of one connection, cut into what arrives together."""
    data = b"".join(message(dice) for _ in range(dice.choice((1, 1, 2, 3, 5))))
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.choice((0, 1, 2, 4))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


class Listener:
    """Where a connection came in."""

    def getsockname(self) -> tuple[str, int]:
        return ADDRESS


def served(worker: Any, pieces: list[bytes]) -> bytes:
    """All that a worker answers to these pieces; the client ends its side after the last."""
    mine, theirs = socket.socketpair()
    serving = gevent.spawn(worker.handle, Listener(), theirs, ("127.0.0.1", 5000))
    answers: list[bytes] = []

    def read() -> None:
        while True:
            try:
                data = mine.recv(65536)
            except ConnectionResetError:
                # The server closed before it had read all; what it had answered still comes.
                continue
            if not data:
                return
            answers.append(data)

    reading = gevent.spawn(read)
    try:
        for piece in pieces:
            mine.sendall(piece)
            gevent.sleep(0)
        mine.shutdown(socket.SHUT_WR)
    except OSError:
        # The server has hung up before all was sent.
        pass
    gevent.joinall([serving, reading], timeout=30, raise_error=True)
    assert serving.ready() and reading.ready(), "a connection that does not end"
    mine.close()
    return b"".join(answers)


def shown(answer: bytes) -> list[bytes]:
    """What is compared: the answers in order; of a refusal by the server itself that it was one."""
    heads = [at.start() for at in re.finditer(rb"HTTP/1\.[01] \d\d\d ", answer)] + [len(answer)]
    found = []
    for begin, end in itertools.pairwise(heads):
        one = answer[begin:end]
        if REFUSED.match(one) and (
            b"text/html" in one or b"not valid HTTP" in one or b"too long" in one
        ):
            found.append(b"refused as no HTTP, and closed")
        else:
            found.append(MASKED.sub(b"*", one))
    return found


def workers(url: str, folder: Path) -> tuple[Any, Any]:
    """This server's worker, and gunicorn's own over an app without a fast path."""
    catalogue = folder / "catalog.yaml"
    catalogue.write_text("models:\n  echo: {engine: echo, limits: {max_queued: 1000000}}\n")
    os.environ.update(
        {
            "REDIS_URL": url,
            "TRUTHGPT_CONFIG": str(catalogue),
            "TRUTHGPT_API_TOKEN": TOKEN,
            "TRUTHGPT_STATE_DIR": str(folder),
            "TRUTHGPT_RATE_LIMIT_RPM": "100000000",
            "RATE_LIMIT_RPM": "100000000",
        }
    )
    from api.app import create_app
    from api.http.fast_path import FastPath
    from api.server import gunicorn_conf
    from api.server.access_log import Logger
    from api.server.worker import Worker
    from api.services import of
    from shared.settings import load_settings

    cfg = Config()
    for name in (
        "keepalive",
        "limit_request_line",
        "limit_request_fields",
        "limit_request_field_size",
    ):
        cfg.set(name, getattr(gunicorn_conf, name))
    made = []
    for kind in (Worker, GeventWorker):
        settings = load_settings().model_copy(
            update={"key_prefix": f"fuzz-{kind.__name__.lower()}"}
        )
        app: Any = create_app(settings)
        worker = kind.__new__(kind)
        worker.cfg, worker.wsgi, worker.log = cfg, app, Logger(cfg)
        worker.alive, worker.nr, worker.max_requests = True, 0, sys.maxsize
        worker._connections = {}
        made.append(worker)
    made[1].wsgi.fast_path = FastPath({}, of(made[1].wsgi))
    return made[0], made[1]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """0 where all streams were answered alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("redis_url")
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seen: Counter[bytes] = Counter()
    with TemporaryDirectory() as folder:
        ours, theirs = workers(options.redis_url, Path(folder))
        logging.disable(logging.CRITICAL)
        for number in range(options.streams):
            pieces = stream(random.Random(f"{options.seed} {number}"))
            here, there = (shown(served(worker, pieces)) for worker in (ours, theirs))
            seen.update(answer[:12] for answer in here)
            if here != there:
                say(
                    f"stream {number} of seed {options.seed}: {pieces}\nhere:  {here}\nthere: {there}"
                )
                return 1
    counted = ", ".join(f"{kind.decode()} {count}" for kind, count in sorted(seen.items()))
    say(f"{options.streams} streams alike: {counted}")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # Threads of two apps; nothing of them is to be ended in order.
    os._exit(status)
