import base64
import hashlib
import re

from flask.testing import FlaskClient


def test_the_page_needs_nothing_from_anywhere_else(anonymous: FlaskClient) -> None:
    page = anonymous.get("/docs")

    assert page.content_type == "text/html; charset=utf-8"
    assert not re.search(r"""(src|href)\s*=\s*["'](https?:)?//""", page.text)
    assert "/openapi.json" in page.text


def test_operations_can_be_searched_and_the_list_of_them_folds(anonymous: FlaskClient) -> None:
    page = anonymous.get("/docs").text

    assert 'type: "search"' in page and '"aria-label": "Search the operations"' in page
    assert '"details", { id: "menu", open: wide.matches }' in page


def test_the_policy_lets_only_the_pages_own_script_run(anonymous: FlaskClient) -> None:
    page = anonymous.get("/docs")
    scripts = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)

    policy = page.headers["Content-Security-Policy"]

    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"\son\w+=|\sstyle=", page.text), "the policy would block these"
