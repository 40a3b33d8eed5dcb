"""The HTML pages in a real browser, on the example site under gunicorn."""

from __future__ import annotations

import json
import os
import sys
import time
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
#: Settings under which no result becomes stale and no run reaches its deadline.
LONG_LIMITS = {
    "EXAMPLE_INTERVAL": "3600",
    "EXAMPLE_MAX_AGE": "3600",
    "EXAMPLE_RUN_TIMEOUT": "600",
}
STEP = "tests.e2e.pages.smoke.BlockingTest.test_step_1"
HANGING = "tests.e2e.pages.smoke.BlockingTest.test_a_service_responds"
ORDER = "orders.smoke.placing.PlaceOrderTest.test_order_can_be_placed"


class PageSite(ExampleSite):
    """Example site with smoke tests that hang or block while a file exists."""

    def __init__(self, *, workers: int = 1, **environment: str) -> None:
        settings = {"DJANGO_SETTINGS_MODULE": "tests.e2e.pages.settings"}
        super().__init__(gunicorn(workers=workers, threads=2), **settings | environment)

    @property
    def url(self) -> str:
        return f"http://{self.address}/smoketest/"

    def create_flag(self, what: str) -> None:
        (self.data_folder / what).touch()

    def remove_flag(self, what: str) -> None:
        (self.data_folder / what).unlink()

    def reset(self) -> None:
        """Restore the initial state, with a fresh result."""
        self.repair()
        for what in ("hang", "block"):
            (self.data_folder / what).unlink(missing_ok=True)
        # An abandoned test must end before it can be started again.
        wait_for(
            lambda: self.run_tests(f"?test={HANGING}")["status"], "PASS".__eq__,
            what="a healthy site",
        )  # fmt: skip
        self.run_tests()

    def make_stale(self) -> None:
        """Deploy another release, so that the stored results belong to an earlier deployment."""
        self.variables["EXAMPLE_RELEASE"] = f"release {time.time()}"
        self.restart()
        self.wait_until_all_workers_respond(WORKERS)


@pytest.fixture(scope="module")
def shared_site() -> Iterator[PageSite]:
    with PageSite(workers=WORKERS, **LONG_LIMITS) as site:
        site.wait_until_all_workers_respond(WORKERS)
        yield site


@pytest.fixture
def site(shared_site: PageSite) -> PageSite:
    """Return a site whose tests have all just passed."""
    shared_site.reset()
    return shared_site


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(window: Browser) -> Browser:
    """Return a browser with a wide window, a light color scheme and an empty console."""
    window.get("about:blank")
    window.resize(1200)
    window.prefer("light")
    window.send()
    window.console()
    return window


def save_screenshot(browser: Browser, name: str) -> None:
    """Save a screenshot if `SMOKETEST_TEST_SCREENSHOTS` is set."""
    if folder := os.environ.get("SMOKETEST_TEST_SCREENSHOTS"):
        browser.screenshot(Path(folder) / f"{name}.png")


def assert_accessible(browser: Browser) -> None:
    """Check the rules of axe-core, for which a recent release requires Python 3.12."""
    if sys.version_info < (3, 12):
        return
    from axe_selenium_python import Axe  # noqa: PLC0415 - see above

    axe = Axe(browser.driver)
    axe.inject()
    violations = axe.run()["violations"]
    assert not violations, axe.report(violations)


def assert_usable(browser: Browser) -> None:
    """Check accessibility, overflow and the console, in light and dark, wide and narrow windows."""
    for scheme, width in (("light", 1200), ("dark", 360)):
        browser.prefer(scheme)
        browser.resize(width)
        assert_accessible(browser)
        assert browser.overflow() <= 0
    browser.prefer("light")
    browser.resize(1200)
    assert browser.console() == []


def open_page(browser: Browser, site: PageSite, path: str = "") -> None:
    """Open a page and wait for the run that it starts."""
    browser.get(f"{site.url}{path}")
    wait_for(
        lambda: browser.find_all("#status[data-stale]"), lambda stale: not stale,
        what="the end of a run",
    )  # fmt: skip


def test_pass(browser: Browser, site: PageSite) -> None:
    """A passing site shows its status in the heading and the title."""
    open_page(browser, site)
    assert browser.text("h1") == "PASS"
    assert browser.driver.title == "PASS · Smoke tests"
    assert "Failing" not in browser.text()
    assert browser.text("#others").startswith("All tests")
    save_screenshot(browser, "page-pass")
    assert_usable(browser)


def test_fail(browser: Browser, site: PageSite) -> None:
    """Failing tests come first, with the message, the start time and the maintainer."""
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
    # The message is visible without scrolling.
    assert browser.find("article .since").rect["y"] < 800
    save_screenshot(browser, "page-fail")
    assert_usable(browser)
    browser.resize(360, 740)
    assert browser.find("article .message").rect["y"] < 740
    save_screenshot(browser, "page-narrow")
    browser.resize(1200)
    browser.prefer("dark")
    save_screenshot(browser, "page-dark")


def test_warning(browser: Browser, site: PageSite) -> None:
    """A failing warning is shown together with the status of the critical tests."""
    site.break_("warning")
    site.run_tests()
    open_page(browser, site)
    assert browser.text("h1") == "PASS with warnings"
    assert "all critical tests pass" in browser.text(".headline")
    assert_usable(browser)


def test_running(browser: Browser, site: PageSite) -> None:
    """The page shows the progress of a run, and each result as soon as it arrives."""
    site.create_flag("block")
    browser.get(site.url)
    browser.find("#run-all-again").click()
    browser.wait_for_text("pending", f'[data-test="{STEP}"]')
    browser.wait_for_text("of 23 tests done", "#progress")
    assert browser.text("h1") == "PASS", "the previous status stays until the run ends"
    others = wait_for(
        lambda: browser.texts("li > .badge"), lambda badges: "passed" in badges,
        what="a result",
    )  # fmt: skip
    assert "running" in others
    assert "pending" in others
    save_screenshot(browser, "page-running")
    assert_usable(browser)
    site.remove_flag("block")
    browser.wait_for_text("Done: PASS, 22 passed.", "#news")
    assert not browser.find("#progress").is_displayed()
    assert "pending" not in browser.texts("li > .badge")


def test_automatic_run(browser: Browser, site: PageSite) -> None:
    """A stale page is served at once and starts a run in the background."""
    site.make_stale()
    site.create_flag("block")
    browser.get(site.url)
    assert browser.text("h1") == "PASS"
    browser.wait_for_text("of 23 tests done", "#progress")
    site.remove_flag("block")
    browser.wait_for_text("Done: PASS", "#news")
    assert browser.find_all("#status[data-stale]") == []
    assert browser.console() == []


def test_wait_for_another_run(browser: Browser, site: PageSite) -> None:
    """The page shows that another run is in progress, and then the result."""
    open_page(browser, site)
    site.create_flag("block")
    with closing(HTTPConnection("127.0.0.1", site.port, timeout=60)) as other:
        other.request("GET", "/smoketest/?format=ndjson", headers={"Cache-Control": "no-cache"})
        events = other.getresponse()
        assert json.loads(events.readline())["event"] == "start"
        browser.find("#run-all-again").click()
        browser.wait_for_text("Another run is in progress", "#progress")
        site.remove_flag("block")
        assert json.loads(events.read().splitlines()[-1])["report"]["status"] == "PASS"
    browser.wait_for_text("Done: PASS", "#news")
    assert browser.console() == []


def test_run_buttons(browser: Browser, site: PageSite) -> None:
    """Buttons run a single test or the failing tests, and the page shows the new results."""
    site.break_("orders")
    site.run_tests()
    open_page(browser, site)
    history = browser.texts(f'li[data-test="{STEP}"] .strip')
    browser.find(f'li[data-test="{STEP}"] button').click()
    browser.wait_for_text("Done: PASS, 1 passed.", "#news")
    assert browser.texts(f'li[data-test="{STEP}"] .strip') == history
    assert browser.text("h1") == "FAIL"
    site.repair()
    browser.find("#run-failing").click()
    browser.wait_for_text("Done: PASS, 1 passed.", "#news")
    browser.wait_for_text("PASS", "h1")
    assert "2 tests have run again since then." in browser.text("#status")
    assert browser.driver.current_url == site.url


def test_hanging_test(browser: Browser, site: PageSite) -> None:
    """A hanging test is shown as timed out as soon as its timeout passes."""
    site.create_flag("hang")
    browser.get(site.url)
    browser.find("#run-all-again").click()
    browser.wait_for_text("timed out", f'[data-test="{HANGING}"]')
    browser.wait_for_text("FAIL", "h1")
    assert "timeout 2 s" in browser.text("article")
    assert_usable(browser)


def test_details(browser: Browser, site: PageSite) -> None:
    """The page that alerts link to shows the failure and the history of a test."""
    site.break_("orders")
    site.run_tests()
    browser.get(f"{site.url}test/{ORDER}/")
    assert browser.text("h1") == "ERRORED\nPlaceOrderTest.test_order_can_be_placed"
    assert "NOT NULL constraint failed" in browser.text("#results")
    save_screenshot(browser, "page-test")
    assert_usable(browser)
    site.repair()
    browser.find("#run-it").click()
    browser.wait_for_text("PASSED", "h1")
    assert "Last failure, 20" in browser.text("#results")
    assert browser.texts("tbody .badge")[:2] == ["passed", "errored"]
    assert_usable(browser)


def test_filters(browser: Browser, site: PageSite) -> None:
    """Filters apply immediately and are kept in the URL."""
    open_page(browser, site)
    browser.find("#filter summary").click()
    browser.find("[name=q]").send_keys("BLOCKING")
    assert browser.text("#shown") == "5 of 23 tests shown"
    browser.find("[name=app] option:nth-child(2)").click()
    assert browser.text("#shown") == "0 of 23 tests shown"
    assert browser.texts("#results h2, #results h3") == []
    browser.find("[name=app] option:nth-child(1)").click()
    assert browser.driver.current_url == f"{site.url}?q=BLOCKING"
    open_page(browser, site, "?q=BLOCKING")
    assert browser.text("#shown") == "5 of 23 tests shown"
    assert len(browser.texts("li[data-test]")) == 5
    browser.find("#filter-form a").click()
    browser.wait_for_text("archive", "#results")
    browser.find("#filter summary").click()
    next(o for o in browser.find_all("[name=tag] option") if o.text == "cache").click()
    browser.wait_for_text("Selection: tag cache.", "#status")
    assert browser.driver.current_url == f"{site.url}?tag=cache"
    assert_usable(browser)


def test_keyboard(browser: Browser, site: PageSite) -> None:
    """Everything works with the keyboard, and the focused element is always visible."""
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
    """Without JavaScript, the page refreshes to a new result, and buttons and filters work."""
    site.make_stale()
    site.break_("orders")
    with chromium(scripts=False) as browser:
        browser.get(site.url)
        browser.wait_for_text("FAIL", "h1")
        assert "Last run just now" in browser.text("#status")
        site.repair()
        browser.find("#run-failing").click()
        browser.wait_for_text("PASS", "h1")
        assert f"Selection: test {ORDER}." in browser.text("#status")
        browser.find("header a").click()
        browser.find("#filter summary").click()
        browser.find("[name=q]").send_keys("blocking")
        browser.find("#filter-form button").click()
        browser.wait_for_text("5 of 23 tests shown", "#shown")
        browser.find("li:not([hidden]) a").click()
        browser.wait_for_text("Last runs")
        browser.find("#run-it").click()
        browser.wait_for_text("PASSED", "h1")
        assert "/test/" in browser.driver.current_url
        assert browser.console() == []


def test_paused(browser: Browser, site: PageSite) -> None:
    """A paused site shows the pause and has no run buttons."""
    site.manage("smoketest", "--pause", "10m", "--reason", "the new disk")
    try:
        browser.get(site.url)
        assert "Paused until" in browser.text("#status")
        assert "(the new disk)" in browser.text("#status")
        assert browser.texts("#status button, #results button") == []
        assert_usable(browser)
    finally:
        site.manage("smoketest", "--resume")


def test_many_tests(browser: Browser) -> None:
    """The page works with 500 tests."""
    with PageSite(PAGES_TEST_COUNT="500") as site:
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
    """The page of a site without smoke tests explains how to add one."""
    apps = "shop catalog orders archive tests.e2e.pages"
    with PageSite(PAGES_SKIP=apps) as site:
        browser.get(site.url)
        browser.wait_for_text("Create a smoke.py module", "#news")
        assert browser.text("h1") == "NO RESULT"
        (message,) = browser.console()
        assert "404" in message
        assert_usable(browser)


def test_token(browser: Browser) -> None:
    """If tokens are configured, only authenticated users see the page, including tracebacks.

    The site sets a strict Content-Security-Policy.
    """
    with PageSite(PAGES_TOKENS=TOKEN, PAGES_POLICY="1", EXAMPLE_BREAK="orders") as site:
        unauthenticated = site.get(
            "/smoketest/", {"Accept": "text/html", "Sec-Fetch-Dest": "document"}
        )
        assert unauthenticated.status == 401
        assert unauthenticated.headers["WWW-Authenticate"].startswith("Basic")
        browser.get(f"http://me:{TOKEN}@{site.address}/smoketest/")
        browser.wait_for_text("Done: FAIL", "#news")
        browser.find("article summary").click()
        assert "in test_order_can_be_placed" in browser.text("article pre")
        assert_usable(browser)
        browser.find("article button").click()
        browser.wait_for_text("Done: FAIL, 0 passed, 1 failed.", "#news")
        browser.find("article h3 a").click()
        browser.wait_for_text("orders/smoke/placing.py:", "#results")
        assert browser.console() == []
