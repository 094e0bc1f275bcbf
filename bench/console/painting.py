"""When a real browser first paints a page: Debian's Chromium, without a screen."""

import shutil
import statistics

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
TIMES = 9
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


def first_paints(url: str, token: str, paths: dict[str, str]) -> dict[str, float] | None:
    """Milliseconds to the first paint of each page: the median of some. None: there is no browser."""
    binary = shutil.which("chromium")
    if binary is None:
        return None
    from playwright.sync_api import sync_playwright

    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=list(FLAGS))
        page = browser.new_page(base_url=url)
        page.goto("/console/sign-in")
        page.fill("#token", token)
        page.click("main button")
        page.wait_for_url("**/console")
        for name, path in paths.items():
            taken = []
            for _ in range(TIMES):
                page.goto(path)
                page.wait_for_function(f"() => {PAINTED} !== null")
                taken.append(float(page.evaluate(PAINTED)))
            found[name] = statistics.median(taken)
        browser.close()
    return found
