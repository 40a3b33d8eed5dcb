"""The pages in a real browser, on the example site under gunicorn."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.servers.chromium import Browser, chromium
from tests.servers.processes import wait_for
from tests.servers.site import ExampleSite, gunicorn

pytestmark = pytest.mark.e2e

TOKEN = "a-token-that-is-long-enough"
WORKERS = 2
#: No result grows stale and no run ends at its deadline while the browser takes its time.
PATIENT = {
    "EXAMPLE_INTERVAL": "3600",
    "EXAMPLE_MAX_AGE": "3600",
    "EXAMPLE_RUN_TIMEOUT": "600",
}
STEP = "tests.e2e.pages.smoke.PatienceTest.test_step_1"
WAITS = "tests.e2e.pages.smoke.PatienceTest.test_a_answer_comes"
ORDER = "orders.smoke.placing.PlaceOrderTest.test_order_can_be_placed"


class PageSite(ExampleSite):
    """The example site, with tests that hang or stay while they are asked to."""

    def __init__(self, *, workers: int = 1, **environment: str) -> None:
        settings = {"DJANGO_SETTINGS_MODULE": "tests.e2e.pages.settings"}
        super().__init__(gunicorn(workers=workers, threads=2), **settings | environment)

    @property
    def url(self) -> str:
        return f"http://{self.address}/smoketest/"

    def ask_to(self, what: str) -> None:
        (self.data_folder / what).touch()

    def ask_no_more_to(self, what: str) -> None:
        (self.data_folder / what).unlink()

    def make_well(self) -> None:
        """As it was at the start, with a result of that."""
        self.mend()
        for what in ("hang", "stay"):
            (self.data_folder / what).unlink(missing_ok=True)
        # An abandoned test ends before it is started again.
        wait_for(
            lambda: self.run_tests(f"?test={WAITS}")["status"], "PASS".__eq__,
            what="a healthy site",
        )  # fmt: skip
        self.run_tests()

    def make_stale(self) -> None:
        """Restart, so that the stored results are of a process that loaded its code earlier."""
        self.restart()
        self.wait_until_each_answers(WORKERS)


@pytest.fixture(scope="module")
def shared_site() -> Iterator[PageSite]:
    with PageSite(workers=WORKERS, **PATIENT) as site:
        site.wait_until_each_answers(WORKERS)
        yield site


@pytest.fixture
def site(shared_site: PageSite) -> PageSite:
    """A site all of whose tests pass, and have just been run."""
    shared_site.make_well()
    return shared_site


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(window: Browser) -> Browser:
    """A browser on a wide and light screen, that has complained of nothing yet."""
    window.get("about:blank")
    window.resize(1200)
    window.prefer("light")
    window.send()
    window.console()
    return window


def keep(browser: Browser, name: str) -> None:
    """Keep a picture for people, if they want some."""
    if folder := os.environ.get("SMOKETEST_TEST_SCREENSHOTS"):
        browser.screenshot(Path(folder) / f"{name}.png")


def assert_accessible(browser: Browser) -> None:
    """By the rules of axe-core, a recent one of which comes for Python 3.12 and newer alone."""
    if sys.version_info < (3, 12):
        return
    from axe_selenium_python import Axe  # noqa: PLC0415 - see above

    axe = Axe(browser.driver)
    axe.inject()
    violations = axe.run()["violations"]
    assert not violations, axe.report(violations)


def assert_good(browser: Browser) -> None:
    """The page can be used by all, and the browser has nothing to complain of.

    Looked at in light and dark, and on the screen of a telephone.
    """
    for scheme, width in (("light", 1200), ("dark", 360)):
        browser.prefer(scheme)
        browser.resize(width)
        assert_accessible(browser)
        assert browser.overflow() <= 0
    browser.prefer("light")
    browser.resize(1200)
    assert browser.console() == []


def open_page(browser: Browser, site: PageSite, path: str = "") -> None:
    """Go to a page, and wait for the run that it begins."""
    browser.get(f"{site.url}{path}")
    wait_for(
        lambda: browser.find_all("#status[data-stale]"), lambda stale: not stale,
        what="the end of a run",
    )  # fmt: skip


def test_pass(browser: Browser, site: PageSite) -> None:
    """All is well, in words, in colour and in the tab."""
    open_page(browser, site)
    assert browser.text("h1") == "PASS"
    assert browser.driver.title == "PASS · Smoke tests"
    assert "Failing" not in browser.text()
    assert browser.text("#others").startswith("All tests")
    keep(browser, "page-pass")
    assert_good(browser)


def test_fail(browser: Browser, site: PageSite) -> None:
    """What fails comes first, with all that one needs at night."""
    site.break_("orders", "warning")
    site.run_tests()
    open_page(browser, site)
    assert browser.text("h1") == "FAIL"
    assert browser.text(".headline").startswith("1 of 23 tests failing since 20")
    first, second = browser.texts("article")
    assert "NOT NULL constraint failed: orders_order.email" in first
    assert "Failing since" in first
    assert "Maintainer\nsales" in first
    assert "warning" in second
    # All of it is on the first screen.
    assert browser.find("article .since").rect["y"] < 800
    keep(browser, "page-fail")
    assert_good(browser)
    browser.resize(360, 740)
    assert browser.find("article .message").rect["y"] < 740
    keep(browser, "page-narrow")
    browser.resize(1200)
    browser.prefer("dark")
    keep(browser, "page-dark")


def test_warning(browser: Browser, site: PageSite) -> None:
    """A warning is told of, and that all critical tests pass."""
    site.break_("warning")
    site.run_tests()
    open_page(browser, site)
    assert browser.text("h1") == "PASS with warnings"
    assert "all critical tests pass" in browser.text(".headline")
    assert_good(browser)


def test_running(browser: Browser, site: PageSite) -> None:
    """A run shows how far it is, and each test's result as soon as there is one."""
    site.ask_to("stay")
    browser.get(site.url)
    browser.find("#run-all-again").click()
    browser.wait_for_text("pending", f'[data-test="{STEP}"]')
    browser.wait_for_text("of 23 tests done", "#progress")
    assert browser.text("h1") == "PASS", "the last result stays until there is another"
    others = wait_for(
        lambda: browser.texts("li > .badge"), lambda badges: "passed" in badges,
        what="a result",
    )  # fmt: skip
    assert "running" in others
    assert "pending" in others
    keep(browser, "page-running")
    assert_good(browser)
    site.ask_no_more_to("stay")
    browser.wait_for_text("Done: PASS, 22 passed.", "#news")
    assert not browser.find("#progress").is_displayed()
    assert "pending" not in browser.texts("li > .badge")


def test_run_of_its_own_accord(browser: Browser, site: PageSite) -> None:
    """A page without a fresh result is loaded before the run that it begins has ended."""
    site.make_stale()
    site.ask_to("stay")
    browser.get(site.url)
    assert browser.text("h1") == "PASS"
    browser.wait_for_text("of 23 tests done", "#progress")
    site.ask_no_more_to("stay")
    browser.wait_for_text("Done: PASS", "#news")
    assert browser.find_all("#status[data-stale]") == []
    assert browser.console() == []


def test_waiting(browser: Browser, site: PageSite) -> None:
    """Who comes while others run is told so, and gets the result of that or of the next run."""
    open_page(browser, site)
    site.ask_to("stay")
    with closing(HTTPConnection("127.0.0.1", site.port, timeout=60)) as other:
        other.request("GET", "/smoketest/?format=ndjson", headers={"Cache-Control": "no-cache"})
        events = other.getresponse()
        assert json.loads(events.readline())["event"] == "start"
        browser.find("#run-all-again").click()
        browser.wait_for_text("Another run is in progress", "#progress")
        site.ask_no_more_to("stay")
        assert json.loads(events.read().splitlines()[-1])["report"]["status"] == "PASS"
    browser.wait_for_text("Done: PASS", "#news")
    assert browser.console() == []


def test_run_one_and_the_failing(browser: Browser, site: PageSite) -> None:
    """A click runs one test or those that fail; the page shows each test as it is now."""
    site.break_("orders")
    site.run_tests()
    open_page(browser, site)
    before = browser.texts(f'li[data-test="{STEP}"] .strip')
    browser.find(f'li[data-test="{STEP}"] button').click()
    browser.wait_for_text("Done: PASS, 1 passed.", "#news")
    assert browser.texts(f'li[data-test="{STEP}"] .strip') == before
    assert browser.text("h1") == "FAIL"
    site.mend()
    browser.find("#run-failing").click()
    browser.wait_for_text("Done: PASS, 1 passed.", "#news")
    browser.wait_for_text("PASS", "h1")
    assert "2 tests have run again since then." in browser.text("#status")
    assert browser.driver.current_url == site.url


def test_hung_test(browser: Browser, site: PageSite) -> None:
    """A test that hangs is shown as such as soon as its time is up; the page does not hang."""
    site.ask_to("hang")
    browser.get(site.url)
    browser.find("#run-all-again").click()
    browser.wait_for_text("timed out", f'[data-test="{WAITS}"]')
    browser.wait_for_text("FAIL", "h1")
    assert "timeout 2 s" in browser.text("article")
    assert_good(browser)


def test_details(browser: Browser, site: PageSite) -> None:
    """The page that an alert links to: why it fails, since when, and its history."""
    site.break_("orders")
    site.run_tests()
    browser.get(f"{site.url}test/{ORDER}/")
    assert browser.text("h1") == "ERRORED\nPlaceOrderTest.test_order_can_be_placed"
    assert "NOT NULL constraint failed" in browser.text("#results")
    keep(browser, "page-test")
    assert_good(browser)
    site.mend()
    browser.find("#run-it").click()
    browser.wait_for_text("PASSED", "h1")
    assert "Last failure, 20" in browser.text("#results")
    assert browser.texts("tbody .badge")[:2] == ["passed", "errored"]
    assert_good(browser)


def test_filters(browser: Browser, site: PageSite) -> None:
    """Filters act at once, stay in the address, and do the same when that is opened again."""
    open_page(browser, site)
    browser.find("#filter summary").click()
    browser.find("[name=q]").send_keys("PATIENCE")
    assert browser.text("#shown") == "5 of 23 tests shown"
    browser.find("[name=app] option:nth-child(2)").click()
    assert browser.text("#shown") == "0 of 23 tests shown"
    assert browser.texts("#results h2, #results h3") == []
    browser.find("[name=app] option:nth-child(1)").click()
    assert browser.driver.current_url == f"{site.url}?q=PATIENCE"
    open_page(browser, site, "?q=PATIENCE")
    assert browser.text("#shown") == "5 of 23 tests shown"
    assert len(browser.texts("li[data-test]")) == 5
    browser.find("#filter-form a").click()
    browser.wait_for_text("archive", "#results")
    browser.find("#filter summary").click()
    next(o for o in browser.find_all("[name=tag] option") if o.text == "cache").click()
    browser.wait_for_text("Selection: tag cache.", "#status")
    assert browser.driver.current_url == f"{site.url}?tag=cache"
    assert_good(browser)


def test_keyboard(browser: Browser, site: PageSite) -> None:
    """All can be done without a mouse, and one always sees where one is."""
    site.break_("orders")
    site.run_tests()
    open_page(browser, site)
    active = "const e = document.activeElement; return "
    seen = []
    for _ in range(12):
        browser.press("TAB")
        outline = browser.run(f"{active} getComputedStyle(e).outlineStyle + e.matches('summary')")
        assert not outline.startswith("none"), seen
        seen.append(str(browser.run(f"{active} e.id || e.innerText.trim()")))
    assert seen[:4] == [
        "run-all-again",
        "run-failing",
        "Filter",
        "PlaceOrderTest.test_order_can_be_placed",
    ]
    browser.run("document.getElementById('run-all-again').focus()")
    browser.press("ENTER")
    browser.wait_for_text("Done: FAIL", "#news")
    assert browser.run(f"{active} e.id") == "run-all-again"
    browser.press("TAB", "TAB", "ENTER", "TAB", "p", "l", "a", "c", "i", "n", "g")
    assert browser.text("#shown") == "3 of 23 tests shown"


def test_without_scripts(site: PageSite) -> None:
    """The page leads to a fresh result, and its buttons and filters work."""
    site.make_stale()
    site.break_("orders")
    with chromium(scripts=False) as browser:
        browser.get(site.url)
        browser.wait_for_text("FAIL", "h1")
        assert "Last run just now" in browser.text("#status")
        site.mend()
        browser.find("#run-failing").click()
        browser.wait_for_text("PASS", "h1")
        assert f"Selection: test {ORDER}." in browser.text("#status")
        browser.find("header a").click()
        browser.find("#filter summary").click()
        browser.find("[name=q]").send_keys("patience")
        browser.find("#filter-form button").click()
        browser.wait_for_text("5 of 23 tests shown", "#shown")
        browser.find("li:not([hidden]) a").click()
        browser.wait_for_text("Last runs")
        browser.find("#run-it").click()
        browser.wait_for_text("PASSED", "h1")
        assert "/test/" in browser.driver.current_url
        assert browser.console() == []


def test_paused(browser: Browser, site: PageSite) -> None:
    """An operator has stopped all runs: the page says so, and offers none."""
    site.manage("smoketest", "--pause", "10m", "--reason", "the new disk")
    try:
        browser.get(site.url)
        assert "Paused until" in browser.text("#status")
        assert "(the new disk)" in browser.text("#status")
        assert browser.texts("#status button, #results button") == []
        assert_good(browser)
    finally:
        site.manage("smoketest", "--resume")


def test_crowd(browser: Browser) -> None:
    """500 tests: the page stays of use."""
    with PageSite(PAGES_CROWD="500") as site:
        site.run_tests()
        browser.get(site.url)
        assert "1 of 523 tests failing" in browser.text(".headline")
        assert_accessible(browser)
        browser.find("#filter summary").click()
        browser.find("[name=q]").send_keys("number_49")
        assert browser.text("#shown") == "10 of 523 tests shown"
        browser.find("#run-all-again").click()
        browser.wait_for_text("Done: FAIL", "#news")
        assert browser.text("#shown") == "10 of 523 tests shown"
        assert browser.overflow() <= 0


def test_no_tests(browser: Browser) -> None:
    """A site without smoke tests says what to do."""
    apps = "shop catalog orders archive tests.e2e.pages"
    with PageSite(PAGES_SKIP=apps) as site:
        browser.get(site.url)
        browser.wait_for_text("Create a smoke.py module", "#news")
        assert browser.text("h1") == "NO RESULT"
        (complaint,) = browser.console()
        assert "404" in complaint
        assert_good(browser)


def test_token(browser: Browser) -> None:
    """With tokens, nothing for outsiders; those let in see tracebacks, too.

    The site has a policy of its own, as strict as can be.
    """
    with PageSite(PAGES_TOKENS=TOKEN, PAGES_POLICY="1", EXAMPLE_BREAK="orders") as site:
        outsider = site.get("/smoketest/", {"Accept": "text/html", "Sec-Fetch-Dest": "document"})
        assert outsider.status == 401
        assert outsider.headers["WWW-Authenticate"].startswith("Basic")
        browser.get(f"http://me:{TOKEN}@{site.address}/smoketest/")
        browser.wait_for_text("Done: FAIL", "#news")
        browser.find("article summary").click()
        assert "in test_order_can_be_placed" in browser.text("article pre")
        assert_good(browser)
        browser.find("article button").click()
        browser.wait_for_text("Done: FAIL, 0 passed, 1 failed.", "#news")
        browser.find("article h3 a").click()
        browser.wait_for_text("orders/smoke/placing.py:", "#results")
        assert browser.console() == []
