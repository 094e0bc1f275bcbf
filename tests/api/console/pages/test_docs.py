"""`/docs`: open to anybody, in the console's clothes and under its policy."""

import re

from flask.testing import FlaskClient

from tests.api.console.conftest import Browser


def test_it_needs_no_key_and_nothing_from_anywhere_else(anonymous: FlaskClient) -> None:
    page = anonymous.get("/docs")

    assert page.status_code == 200
    assert page.content_type == "text/html; charset=utf-8"
    assert not re.search(r"""(src|href)\s*=\s*["'](https?:)?//""", page.text)
    for name in ("console.css", "docs.css", "docs.js", "try.js"):
        stem, _, suffix = name.rpartition(".")
        (url,) = re.findall(rf"/console/static/{stem}\.\w+\.{suffix}", page.text)
        assert anonymous.get(url).status_code == 200


def test_no_script_or_style_stands_in_the_page(anonymous: FlaskClient) -> None:
    page = anonymous.get("/docs")

    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?! src=)|<style|\son\w+=|\sstyle=", page.text)


def test_it_speaks_the_language_that_was_chosen_in_the_console(browser: Browser) -> None:
    browser.post("/console/preferences", language="es", theme="dark", next="/docs")

    page = browser.get("/docs").text

    assert '<html lang="es" data-theme="dark"' in page
    assert "Buscar operaciones" in page
