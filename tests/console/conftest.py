"""A real server with echo models and one Chromium for the tests of this folder."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from shared.store.jobs import JobStore
from tests.api.conftest import PlayedWorker
from tests.conftest import require
from tests.integration.stack import TOKEN, Stack

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CATALOGUE = """
models:
  echo: {engine: echo}
  played: {engine: echo}
"""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 60_000
WATCH = (
    "addEventListener('securitypolicyviolation', e => console.error('policy', e.violatedDirective))"
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An API and a worker of `echo`; the tests play the worker of `played`."""
    stack = Stack(tmp_path_factory.mktemp("stack") / "s", CATALOGUE, {"ENABLE_TRACING": "false"})
    try:
        yield stack.serve("echo")
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def worker(stack: Stack) -> Iterator[PlayedWorker]:
    redis = Redis.from_url(stack.redis.url)
    yield PlayedWorker(JobStore(redis, "truthgpt", retention=3600, lease=15.0), "played")
    redis.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    """Debian's browser, driven by Playwright, which brings none of its own."""
    binary = shutil.which("chromium")
    require(binary, "chromium (apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=FLAGS)
        yield browser
        browser.close()


class Visitor:
    """A window of a browser profile of its own. `faults` are what its console and policy complain of."""

    def __init__(
        self, browser: "Browser", url: str, sessions: dict[str, list[Any]], **options: Any
    ) -> None:
        self._sessions = sessions
        self.context: BrowserContext = browser.new_context(base_url=url, **options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.add_init_script(WATCH)
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("console", lambda said: self._note(said.type, said.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self._dialog(dialog))

    def sign_in(self, token: str = TOKEN) -> "Visitor":
        """As this key's holder; who has signed in before brings the cookies of that session."""
        if token in self._sessions:
            self.context.add_cookies(self._sessions[token])
            return self
        self.page.goto("/console/sign-in")
        self.page.fill("#token", token)
        self.page.click("main button")
        self.page.wait_for_url("**/console")
        self._sessions[token] = list(self.context.cookies())
        return self

    def shown(self, selector: str) -> str:
        """The text of the first of these, as soon as there is one."""
        return self.page.locator(selector).first.inner_text()

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.faults.append(text)

    def _dialog(self, dialog: Any) -> None:
        if dialog.type != "confirm":
            self.faults.append(f"{dialog.type}: {dialog.message}")
        dialog.accept()


@pytest.fixture(scope="module")
def sessions() -> dict[str, list[Any]]:
    """The cookies of those who have signed in, by their keys."""
    return {}


@pytest.fixture
def visit(
    chromium: "Browser", stack: Stack, sessions: dict[str, list[Any]]
) -> Iterator[Callable[..., Visitor]]:
    """A new visitor; afterwards none may have had a fault in its console but those it was told to expect."""
    visitors: list[Visitor] = []

    def come(**options: Any) -> Visitor:
        visitors.append(Visitor(chromium, stack.url, sessions, **options))
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.context.close()
    assert [fault for visitor in visitors for fault in visitor.faults] == []


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core's script, as its authors publish it."""
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
