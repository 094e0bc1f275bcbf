"""A receiver of webhooks: checks the signature, takes each message once, answers at once.

    WEBHOOK_SECRET=whsec_… python examples/webhook_receiver.py --port 9000

and, on the server, the same secret in WEBHOOK_HMAC_SECRET and, since this is a private address,
WEBHOOK_ALLOW_HOSTS=127.0.0.1. Then submit with `"webhook": {"url": "http://127.0.0.1:9000/"}`.
"""

import argparse
import os
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

LARGEST = 16 * 1024 * 1024
REMEMBERED = 10_000

seen: OrderedDict[str, None] = OrderedDict()
"""Ids of the newest messages: a message is sent at least once, so it may come twice."""


def handle(message: dict[str, Any]) -> None:
    """Your part. Keep it short, or hand the message to a queue of your own."""
    job = message["data"]
    print(message["type"], job["id"], job["status"], job["output"], flush=True)


def is_new(message_id: str) -> bool:
    if message_id in seen:
        return False
    seen[message_id] = None
    if len(seen) > REMEMBERED:
        seen.popitem(last=False)
    return True


class Receiver(BaseHTTPRequestHandler):
    secret = ""
    timeout = 10

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if not 0 < length <= LARGEST:
            self.send_error(413)
            return
        body = self.rfile.read(length)
        try:
            # The raw bytes are signed: check before anything parses them.
            message = Webhook(self.secret).verify(body, dict(self.headers))
        except (WebhookVerificationError, ValueError):
            self.send_error(401)
            return
        if is_new(self.headers["webhook-id"]):
            handle(message)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet: `handle` prints."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Receive webhooks and print them.")
    parser.add_argument("--port", type=int, default=9000)
    Receiver.secret = os.environ["WEBHOOK_SECRET"]
    ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Receiver).serve_forever()


if __name__ == "__main__":
    main()
