"""Files: uploaded with the token of the session, listed with what room is left, downloaded, deleted."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from api.services import of
from shared.settings import Settings
from shared.store.api_keys import Scope
from tests.api.console.conftest import Browser

HOSTILE = "<img src=x onerror=alert(1)>.jsonl"
FIELD = '--b\r\nContent-Disposition: form-data; name="'
CONTENT = b'{"custom_id": "1"}\n'


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    update = {"file_storage": str(tmp_path / "files"), "file_max_bytes": 1024 * 1024}
    return settings.model_copy(update=update)


def upload(
    browser: Browser, content: bytes = CONTENT, name: str = "in.jsonl", **headers: str
) -> TestResponse:
    given = {"HX-Request": "true", "X-CSRF-Token": browser.csrf, **headers}
    data = {"purpose": "batch", "file": (io.BytesIO(content), name)}
    return browser.client.post(
        "/console/batches/files", data=data, headers=given, content_type="multipart/form-data"
    )


def the_id(page: str) -> str:
    found = re.search(r"file-[0-9a-f]{32}", page)
    assert found is not None
    return found[0]


def test_a_file_is_uploaded_downloaded_and_deleted(browser: Browser) -> None:
    assert "No files yet" in browser.get("/console/batches/files").text

    part = upload(browser).text
    file_id = the_id(part)
    assert ">in.jsonl<" in part and "1 of " in part
    assert f'value="{file_id}"' in browser.get("/console/batches").text, "an input to choose"

    answer = browser.get(f"/console/batches/files/{file_id}/content")
    assert answer.data == CONTENT
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    gone = browser.post(f"/console/batches/files/{file_id}/delete", part="files").text
    assert "No files yet" in gone and "0 of " in gone
    assert browser.get(f"/console/batches/files/{file_id}/content").status_code == 404


def plain_form(
    browser: Browser, fields: dict[str, str], after: dict[str, str] | None = None
) -> TestResponse:
    """The upload of a browser without JavaScript: `fields`, the file, fields that come `after` it."""
    given = "".join(f'{FIELD}{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    given += f'{FIELD}file"; filename="in.jsonl"\r\n\r\n{CONTENT.decode()}\r\n'
    given += "".join(f'{FIELD}{name}"\r\n\r\n{value}\r\n' for name, value in (after or {}).items())
    return browser.client.post(
        "/console/batches/files",
        data=f"{given}--b--\r\n",
        content_type="multipart/form-data; boundary=b",
    )


def test_a_form_without_javascript_uploads_with_the_token_in_its_first_field(
    browser: Browser,
) -> None:
    page = browser.get("/console/batches/files").text
    (form,) = re.findall(r"<form[^>]*data-upload>.*?</form>", page, re.DOTALL)
    assert 'enctype="multipart/form-data"' in form and 'action="/console/batches/files"' in form
    assert form.index('name="csrf"') < form.index('name="purpose"') < form.index('name="file"')

    answer = plain_form(browser, {"csrf": browser.csrf, "purpose": "batch"})

    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/batches/files")
    assert ">in.jsonl<" in browser.get("/console/batches/files").text


def test_a_form_whose_token_is_wrong_missing_or_late_stores_nothing(
    app: Flask, browser: Browser, settings: Settings
) -> None:
    told = {"purpose": "batch"}
    assert plain_form(browser, told).status_code == 403
    assert plain_form(browser, {"csrf": "x", **told}).status_code == 403
    assert plain_form(browser, told, {"csrf": browser.csrf}).status_code == 403
    other = browser.client.post(
        "/console/keys",
        data={"csrf": browser.csrf, "tenant": "x"},
        content_type="multipart/form-data",
    )
    assert other.status_code == 415, "no other page takes such a form"

    assert of(app).files.listing("default") == ([], False)
    assert not [one for one in Path(settings.file_storage).rglob("*") if one.is_file()]
    assert browser.get("/console/audit?action=file.create").text.count(">forbidden<") == 3


@pytest.mark.parametrize("token", [{"X-CSRF-Token": "x"}, {"X-CSRF-Token": ""}])
def test_without_the_token_nothing_is_stored(
    app: Flask, browser: Browser, token: dict[str, str]
) -> None:
    assert upload(browser, **token).status_code in (403, 415)
    assert of(app).files.listing("default") == ([], False)


def test_another_site_uploads_nothing(app: Flask, browser: Browser) -> None:
    assert upload(browser, **{"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert of(app).files.listing("default") == ([], False)


def test_what_is_too_large_is_refused_in_the_page(browser: Browser) -> None:
    answer = upload(browser, bytes(1024 * 1024 + 1))

    assert answer.status_code == 413 and answer.headers["HX-Retarget"] == "#notice"
    page = browser.get("/console/batches/files").text
    assert 'data-most="1048576"' in page and "No files yet" in page


def test_hostile_names_are_text(browser: Browser) -> None:
    upload(browser, name=HOSTILE)

    for path in ("/console/batches/files", "/console/batches", "/console/audit"):
        page = browser.get(path).text
        assert HOSTILE not in page and "&lt;img src=x onerror=alert(1)" in page, path


def test_others_see_none_of_it_and_readers_have_no_buttons(
    browser: Browser, signed_in_with: Callable[..., Browser]
) -> None:
    file_id = the_id(upload(browser).text)
    other = signed_in_with(Scope.JOBS_READ, Scope.JOBS_WRITE, tenant="other")
    reader = signed_in_with(Scope.JOBS_READ)

    assert file_id not in other.get("/console/batches/files").text
    assert other.get(f"/console/batches/files/{file_id}/content").status_code == 404
    assert other.post(f"/console/batches/files/{file_id}/delete").status_code == 404
    page = reader.get("/console/batches/files", part="files").text
    assert file_id in page and "<button" not in page
    assert upload(reader).status_code == 403
    assert reader.get(f"/console/batches/files/{file_id}/content").data == CONTENT
