"""Overview pages that stay open, as browsers keep them: each looks again every few seconds."""

import http.client
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

LOOKS, CHARTS = 5.0, 60.0
"""Seconds between two looks of an open overview at its figures, and at its charts."""
PARTS = (("/console", "overview", LOOKS), ("/console/history", "charts", CHARTS))


class Pages:
    """So many pages of one session. `looks` is how often they have looked, `failed` how often in vain."""

    def __init__(self, url: str, cookie: str, count: int) -> None:
        self._at, self._cookie = urlsplit(url), cookie
        self._over = threading.Event()
        self.looks = self.failed = 0
        self._threads = [threading.Thread(target=self._stay, args=(n,)) for n in range(count)]

    @contextmanager
    def stay_open(self) -> Iterator["Pages"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()

    def _stay(self, n: int) -> None:
        chosen, began = random.Random(n), time.monotonic()
        due = [began + chosen.random() * every for _, _, every in PARTS]
        connection = http.client.HTTPConnection(self._at.hostname or "", self._at.port, timeout=10)
        while not self._over.wait(max(0.0, min(due) - time.monotonic())):
            part = due.index(min(due))
            path, target, every = PARTS[part]
            self._look(connection, path, target)
            due[part] += every
        connection.close()

    def _look(self, connection: http.client.HTTPConnection, path: str, target: str) -> None:
        headers = {"Cookie": self._cookie, "HX-Request": "true", "HX-Target": target}
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            self.failed += answer.status != 200
        except OSError:
            connection.close()
            self.failed += 1
        self.looks += 1
