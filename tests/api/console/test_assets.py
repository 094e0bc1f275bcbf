"""Scripts and styles: small, kept for ever, as their authors published them."""

import gzip
import hashlib
from pathlib import Path

import pytest
from flask import Flask

import api.console
from api.console.assets import assets, url_of

STATIC = Path(api.console.__path__[0]) / "static"
PUBLISHED = {
    "htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "uplot.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


def test_all_of_them_take_less_than_150_kb() -> None:
    assert sum(len(asset.compressed) for asset in assets().values()) <= 150_000


def test_each_is_sent_to_anybody_to_be_kept_for_ever(app: Flask) -> None:
    for name in ("console.css", "console.js", "htmx.min.js", "icon.svg"):
        for takes in ("gzip", "identity", "gzip;q=0"):
            answer = app.test_client().get(url_of(name), headers={"Accept-Encoding": takes})
            assert answer.status_code == 200
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert (answer.headers.get("Content-Encoding") == "gzip") is (takes == "gzip")
            body = gzip.decompress(answer.data) if takes == "gzip" else answer.data
            assert hashlib.sha256(body).hexdigest()[:12] in url_of(name)


def test_a_name_that_is_none_has_no_file(app: Flask) -> None:
    for name in ("console.css", "htmx.LICENSE", "console.000000000000.css", "..%2fguard.py"):
        assert app.test_client().get(f"/console/static/{name}").status_code in (400, 404)
    with pytest.raises(KeyError):
        url_of("absent.js")


def test_the_files_of_others_are_as_they_were_published() -> None:
    found = {file.name for file in (STATIC / "vendor").iterdir() if file.suffix in (".js", ".css")}

    assert found == set(PUBLISHED)
    for name, digest in PUBLISHED.items():
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest
