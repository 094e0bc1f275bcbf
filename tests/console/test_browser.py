"""The console in a real browser, on a real server."""

import re
import time
from collections.abc import Callable, Sequence

import pytest

from shared.domain.records import Finish
from shared.domain.states import JobState
from shared.settings.sign_in_ticket import issue_ticket
from tests.api.conftest import PlayedWorker
from tests.conftest import eventually, exploring
from tests.console.conftest import PATIENCE_MS, Visitor
from tests.integration.stack import TOKEN, Stack

WINDOWS = ((1440, "light"), (375, "dark"))
"""A desk's and a phone's: how wide, in which colours."""
DRAWN = ("color-contrast", "target-size")
"""Rules of axe-core that look at each thing where it is drawn: 3 ms for each of some thousand."""
ONE_OF_EACH = """() => {
  const kinds = new Set();
  for (const one of document.querySelectorAll("#operations article:not(#create_job)")) {
    const kind = one.querySelector(".verb").className;
    if (kinds.has(kind)) one.remove();
    kinds.add(kind);
  }
}"""
"""Leaves `create_job` and one operation of each HTTP method on the page of the API."""
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\"'&lt;{{7*7}}"
SLOW = {"step_ms": 100}
FILL = """
local newest, ids = tonumber(ARGV[3], 16), {}
for n = tonumber(ARGV[4]), tonumber(ARGV[4]) + 999 do
  local id = string.format('job_%012x%020x', newest - n, n)
  redis.call('HSET', ARGV[1] .. id, 'state', 'succeeded', 'model', 'echo', 'metadata', '{"team":"a"}')
  ids[#ids + 1] = 0
  ids[#ids + 1] = id
end
redis.call('ZADD', ARGV[2], unpack(ids))
"""
WORDS = " ".join(f"word{n}" for n in range(60))
NETWORK = "Failed to load resource"
"""What a browser's console says of every answer that is no success, and of none."""

Come = Callable[..., Visitor]


def running(stack: Stack, text: str = WORDS) -> str:
    """The id of a job that goes on for seconds."""
    with stack.client() as client:
        return client.submit("echo", text, params=SLOW).id


def whole(visitor: Visitor, text: str) -> None:
    """Wait until the output is this text, exactly."""
    visitor.page.wait_for_function(
        "text => document.querySelector('#output pre')?.textContent === text",
        arg=text,
        timeout=PATIENCE_MS,
    )


def many(worker: PlayedWorker, count: int) -> str:
    """Give the tenant `archive` so many jobs that have ended; the id of the oldest, the one that is rare."""
    store, newest = worker.store, int(time.time() * 1000)
    for begin in range(0, count, 1_000):
        names = store.keys("job", ""), store.keys("index", "archive")
        store.redis.eval(FILL, 0, *names, f"{newest:x}", begin)
    rare = f"job_{newest - count + 1:012x}{count - 1:020x}"
    more = {"metadata": '{"rare":"yes"}', "tenant": "archive", "created": newest - count + 1}
    store.redis.hset(store.keys("job", rare), mapping=more)
    return rare


def test_who_has_a_key_signs_in_and_out(visit: Come) -> None:
    visitor = visit()
    page = visitor.page
    page.goto("/console/jobs?status=failed")
    page.fill("#token", "not a key")
    page.click("main button")
    assert "not a valid key" in visitor.shown("[role=alert]")
    page.fill("#token", TOKEN)
    page.click("main button")
    page.wait_for_url("**/console/jobs?status=failed")

    page.click("summary")
    page.click("text=Sign out")
    page.wait_for_url("**/console/sign-in")
    page.goto("/console/jobs")

    assert "/console/sign-in" in page.url
    assert all(NETWORK in fault and "401" in fault for fault in visitor.faults)
    visitor.faults.clear()


def test_the_link_of_the_terminal_signs_in_and_leaves_no_trace(visit: Come, stack: Stack) -> None:
    visitor = visit()
    visitor.page.goto(f"/console/sign-in#ticket={issue_ticket(TOKEN)}")
    visitor.page.wait_for_url("**/console")

    assert visitor.shown("h1") == "Overview"
    visitor.page.go_back()
    assert "ticket" not in visitor.page.url
    assert "ticket" not in stack.log("api")


def test_a_run_in_the_playground_shows_its_text_as_it_grows(visit: Come) -> None:
    page = visit().sign_in().page
    page.goto("/console/playground?model=echo")
    page.fill("#prompt", WORDS)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#run-state-1 .chip.succeeded")

    assert page.locator("#run pre.live").text_content() == WORDS
    page.click("text=Open the job")
    page.wait_for_selector(".timeline li.succeeded")
    assert page.locator("#output pre").text_content() == WORDS

    page.goto("/docs")
    page.wait_for_selector("#who >> text=tenant default")
    page.click("#create_job summary >> text=Try it")
    page.click("#create_job button.main")
    page.wait_for_selector("#create_job pre >> text=202 ACCEPTED")


def test_a_page_goes_on_after_the_api_was_killed_without_a_gap(visit: Come, stack: Stack) -> None:
    visitor = visit().sign_in()
    job_id = running(stack)
    visitor.page.goto(f"/console/jobs/{job_id}")
    visitor.page.wait_for_function(
        "() => document.querySelector('#output pre').textContent.length > 20"
    )
    assert visitor.page.locator("#output pre").text_content() != WORDS, "it still grows"

    stack.kill("api")
    visitor.page.wait_for_selector("#output .only-live:not(:empty), #notice .away")
    stack.start("api", "api")

    whole(visitor, WORDS)
    visitor.page.wait_for_selector(".timeline li.succeeded")
    visitor.page.wait_for_selector("#notice:empty", state="attached")
    away = (NETWORK, "net::ERR", "htmx:")
    assert all(any(word in fault for word in away) for fault in visitor.faults), visitor.faults
    visitor.faults.clear()
    stack.ready("echo")


def test_a_running_job_is_canceled(visit: Come, stack: Stack) -> None:
    page = visit().sign_in().page
    page.goto(f"/console/jobs/{running(stack)}")
    page.wait_for_selector("#output pre.live:not(:empty)")
    page.click("button.danger")

    page.wait_for_selector(".timeline li.canceled")
    page.wait_for_selector("text=This job has no output")
    assert page.locator("button.danger").count() == 0


def test_a_list_follows_what_happens_and_is_filtered(
    visit: Come, stack: Stack, worker: PlayedWorker
) -> None:
    page = visit().sign_in().page
    page.goto("/console/jobs")
    with stack.client() as client:
        job_id = client.submit("played", "x").id
    page.wait_for_selector(f"#to-{job_id}")
    worker.serve("y")
    page.wait_for_selector(f"tr:has(#to-{job_id}) .chip.succeeded")

    page.goto("about:blank")
    rare = many(worker, 30_000)
    page.goto("/console/jobs?tenant=archive&metadata=rare%3Dyes")
    page.wait_for_selector("#job-more >> text=/All 30.000 jobs were looked at/", timeout=180_000)
    assert page.locator("#job-rows tbody a").all_inner_texts() == [rare]

    page.goto("/console/jobs")
    page.select_option("#status", "canceled")
    page.wait_for_url(re.compile("status=canceled"))
    assert page.locator(f"#to-{job_id}").count() == 0
    page.keyboard.press("/")
    page.keyboard.type(job_id)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/console/jobs/{job_id}")


def test_a_dead_letter_is_tried_again(visit: Come, stack: Stack, worker: PlayedWorker) -> None:
    with stack.client() as client:
        job_id = client.submit("played", "fails").id
    claim = worker.take()
    error = b'{"code":"engine_error","message":"no","retryable":true}'
    worker.store.write([Finish(claim.id, claim.attempt, JobState.FAILED, error=error, dead=True)])
    page = visit().sign_in().page
    page.goto("/console/dead-letters")
    page.check(f"input[name='job:{job_id}']")
    page.click("text=Try the ticked ones again")

    page.wait_for_selector("text=1 jobs are tried again")
    assert worker.serve("done").id != job_id


def test_a_key_is_made_used_and_revoked(visit: Come) -> None:
    operator, holder = visit().sign_in(), visit()
    operator.page.goto("/console/keys")
    operator.page.fill("#tenant", "acme")
    operator.page.click("text=Make the key")
    token = operator.shown("#new-token")
    holder.sign_in(token).page.goto("/console/jobs")
    assert "No jobs yet" in holder.shown("#job-rows")
    assert holder.page.locator("a[href='/console/keys']").count() == 0

    operator.page.click("button[aria-label^=Revoke]")
    operator.page.wait_for_selector(".chip.revoked")
    operator.page.goto("/console/audit")
    revoked, signed_in, made = operator.page.locator("#audit-rows tbody tr").all_inner_texts()[:3]
    assert "revoke a key" in revoked and "make a key" in made and "acme" in made
    assert "sign in" in signed_in and "acme" in signed_in

    # The list looks again by itself, and leads to the sign-in.
    holder.page.wait_for_url("**/console/sign-in?next=/console/jobs")
    assert all(NETWORK in fault and "401" in fault for fault in holder.faults)
    holder.faults.clear()


def test_a_file_is_uploaded_without_javascript(visit: Callable[..., Visitor]) -> None:
    plain = visit(java_script_enabled=False).sign_in()
    plain.page.goto("/console/batches/files")
    file = {"name": "plain.jsonl", "mimeType": "application/jsonl", "buffer": b"{}"}
    plain.page.set_input_files("#file", file)
    plain.page.click("form[data-upload] button")

    plain.page.wait_for_selector("#files >> text=plain.jsonl")
    assert plain.page.url.endswith("/console/batches/files")
    plain.page.click("#files form[action$=delete] button")
    plain.page.wait_for_selector("#files >> text=No files yet")


def test_hostile_strings_are_shown_as_text(visit: Come, stack: Stack, worker: PlayedWorker) -> None:
    with stack.client() as client:
        ended = client.submit("played", HOSTILE, metadata={"<b>": HOSTILE}).id
        failed = client.submit("played", HOSTILE).id
        live = client.submit("echo", HOSTILE, params=SLOW).id
    worker.serve(HOSTILE)
    worker.fail("engine_error", HOSTILE)
    visitor = visit().sign_in()
    page = visitor.page

    page.goto(f"/console/jobs/{live}")
    whole(visitor, HOSTILE)
    page.goto(f"/console/jobs/{ended}")
    assert page.locator("#output pre").text_content() == HOSTILE
    assert HOSTILE in page.locator("#job").inner_text()
    page.goto(f"/console/jobs/{failed}")
    assert HOSTILE in visitor.shown(".callout")
    page.goto("/console/jobs?id=%3Cscript%3Ealert(3)%3C/script%3E")
    assert page.input_value("#id") == "<script>alert(3)</script>"
    assert page.locator("main script, main img").count() == 0
    page.goto("/console/batches/files")
    name = HOSTILE.replace("/", "")
    page.set_input_files("#file", {"name": name, "mimeType": "text/plain", "buffer": b"{}"})
    page.click("main button.main")
    page.wait_for_selector("#files table")
    eventually(lambda: name in page.locator("#files td a").all_text_contents())
    page.goto("/console/batches")
    assert name in page.locator("#input").inner_text()
    assert page.locator("main script, main img").count() == 0


def test_what_is_refused_is_said_in_the_page(visit: Come) -> None:
    visitor = visit().sign_in()
    visitor.page.goto("/console/playground?model=echo")
    visitor.page.evaluate("document.querySelector('input[name=model]').value = 'absent'")
    visitor.page.fill("#prompt", "x")
    visitor.page.click("text=Run")

    visitor.page.wait_for_selector("#notice >> text=There is no model")
    assert visitor.page.input_value("#prompt") == "x"
    assert all("404" in fault for fault in visitor.faults), "what htmx and the browser note of it"
    visitor.faults.clear()


def test_it_is_used_by_keyboard_alone(visit: Come) -> None:
    page = visit().sign_in().page
    page.goto("/console")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("g")
    page.keyboard.press("j")
    page.wait_for_url("**/console/jobs")
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_times_are_the_reader_s_with_utc_in_the_title(visit: Come, stack: Stack) -> None:
    job_id = running(stack, "x")
    visitor = visit(timezone_id="Asia/Tokyo", locale="es-ES").sign_in()
    visitor.page.goto(f"/console/jobs/{job_id}")
    time = visitor.page.locator(".timeline time").first

    eventually(lambda: time.get_attribute("title"), what="the script has seen it")
    utc, local = time.get_attribute("title") or "", time.inner_text()
    hour = int(re.search(r" (\d\d):", utc)[1])  # type: ignore[index]
    assert utc.endswith("UTC") and int(local.split(":")[0]) == (hour + 9) % 24
    assert (
        visitor.page.title().endswith("truthgpt") and visitor.shown("#h-timeline") == "Cronología"
    )


@pytest.mark.explores
@pytest.mark.timeout(300)
def test_every_page_fits_and_breaks_no_rule_of_accessibility(
    visit: Come, stack: Stack, worker: PlayedWorker, axe: str
) -> None:
    with stack.client() as client:
        waits = client.submit("played", "x" * 300, metadata={"a" * 60: "b" * 300}).id
        done = client.infer("echo", "done " * 50).id
    stranger = visit()
    pages = ["", "/jobs", "/jobs?status=expired", f"/jobs/{waits}", f"/jobs/{done}", "/models"]
    pages += ["/models/echo", "/models/played", "/playground", "/dead-letters", "/keys", "/absent"]
    pages += ["/batches", "/batches/files", "/usage", "/sessions", "/audit"]
    found = {"/sign-in": faults_of(stranger, "/sign-in", axe, 0)}
    stranger.sign_in()
    for place, path in enumerate(pages, 1):
        found[path] = faults_of(stranger, path, axe, place)
    assert {path: faults for path, faults in found.items() if faults} == {}
    stranger.faults[:] = [fault for fault in stranger.faults if "404" not in fault]


def test_the_page_of_the_api_fits_and_says_how_to_sign_in(visit: Come, axe: str) -> None:
    stranger = visit()
    for width, _ in WINDOWS:
        stranger.page.set_viewport_size({"width": width, "height": 800})
        stranger.page.goto("/docs")
        stranger.page.fill("#nav input", "make a job")
        assert not unfolded_is_too_wide(stranger)
        if width == max(WINDOWS)[0]:
            assert broken_rules(stranger, axe, without=DRAWN) == []
        stranger.page.evaluate(ONE_OF_EACH)
        assert broken_rules(stranger, axe) == []
    stranger.page.click("#create_job button.main")
    assert "Sign in" in stranger.shown("#create_job pre[role=log]")


def faults_of(visitor: Visitor, path: str, axe: str, place: int) -> list[str]:
    """What is wrong with a page of the console in either window.

    axe-core looks in one of them, by turns from page to page, and in `make explore` in both.
    """
    faults = []
    for number, (width, colours) in enumerate(WINDOWS):
        visitor.page.set_viewport_size({"width": width, "height": 800})
        visitor.page.emulate_media(color_scheme=colours)
        if number == 0:
            visitor.page.goto(f"/console{path}")
        here = ["too wide"] if unfolded_is_too_wide(visitor) else []
        if exploring() or place % 2 == number:
            here += broken_rules(visitor, axe)
        faults += [f"{width} px: {fault}" for fault in here]
    return faults


def unfolded_is_too_wide(visitor: Visitor) -> bool:
    """Open all that folds on the page. Returns whether it is wider than the window then."""
    visitor.page.evaluate(
        "document.querySelectorAll('details.fold').forEach(f => f.open = f.offsetParent !== null)"
    )
    return bool(visitor.page.evaluate("document.documentElement.scrollWidth > innerWidth"))


def broken_rules(visitor: Visitor, axe: str, *, without: Sequence[str] = ()) -> list[str]:
    """What axe-core finds on the page that is open."""
    page = visitor.page
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe)
    # To describe all that passes as well takes four times as long.
    options = {"resultTypes": ["violations"], "rules": {one: {"enabled": False} for one in without}}
    run = "options => axe.run(document, options).then(result => result.violations)"
    return [
        f"{rule['id']}: {rule['nodes'][0]['html'][:200]} {rule['nodes'][0]['failureSummary'][:300]}"
        for rule in page.evaluate(run, options)
    ]
