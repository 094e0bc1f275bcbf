"""A response that is made in the background, and a webhook that says when it is done.

    pip install openai
    OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=$TOKEN python examples/openai_background.py MODEL

The receiver runs here, on a private address: on the server, set WEBHOOK_ALLOW_HOSTS=127.0.0.1.
"""

import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from openai import InvalidWebhookSignatureError, OpenAI

EVENTS = ["response.completed", "response.incomplete", "response.failed", "response.cancelled"]
SECONDS = 120

client = OpenAI()
told: queue.Queue[Any] = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    """Takes events in. They may come more than once: `webhook-id` tells them apart."""

    secret = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            told.put(client.webhooks.unwrap(body, dict(self.headers), secret=self.secret))
        except InvalidWebhookSignatureError:
            self.send_error(401)
            return
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    endpoint: Any = client.post(
        "/webhook_endpoints",
        body={"url": url, "name": "example", "event_types": EVENTS},
        cast_to=object,
    )
    Receiver.secret = endpoint["signing_secret"]
    try:
        asked = client.responses.create(
            model=sys.argv[1], input="The function returns", background=True, max_output_tokens=64
        )
        print(asked.id, asked.status)
        event = told.get(timeout=SECONDS)
        print(event.type)
        print(client.responses.retrieve(event.data.id).output_text)
    finally:
        client.delete(f"/webhook_endpoints/{endpoint['id']}", cast_to=object)
        server.shutdown()


if __name__ == "__main__":
    main()
