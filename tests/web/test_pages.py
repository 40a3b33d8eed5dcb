"""HTML pages, as served to browsers and scripts."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.apps import apps as registry
from django.test import Client, override_settings
from django.urls import path, reverse

from smoketest import services
from smoketest.store import Pause
from smoketest.views import IndexView
from smoketest.web import pages
from tests.conftest import Site

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

BROWSER = {
    "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "sec-fetch-dest": "document",
}
PROGRAM = {"accept": "text/html"}
TOKEN = "a-token-that-is-long-enough"
MIXED = """
class T(SmokeTest):
    @tag("db")
    def test_bad(self):
        self.assertEqual(1, 2)
    @tag("db", "readiness")
    def test_good(self):
        pass
    def test_worse(self):
        raise ValueError("no such thing")
"""
PASSES = """
class T(SmokeTest):
    def test_good(self):
        pass
"""


def visible_tests(response: Any) -> list[str]:
    """Return the names of the visible tests, in page order."""
    rows = re.findall(r'data-test="[\w.]+\.(\w+)"[^>]*?( hidden)?>', response.text)
    return [name for name, hidden in rows if not hidden]


def status_on_page(response: Any) -> str:
    (words,) = re.findall(r'<h1 id="verdict"[^>]*>([^<]*)', response.text)
    return str(words)


def run(client: Client, query: str = "") -> None:
    """Run the tests and store their results."""
    client.get(f"/smoketest/{query}", headers={"cache-control": "no-cache"})


# -- index page -----------------------------------------------------------------------------------


def test_browser__before_any_run(site: Site) -> None:
    """The page is served at once without a result and triggers a run, with or without scripts."""
    client = site(PASSES)
    response = client.get("/smoketest/", headers=BROWSER)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store, private"
    assert status_on_page(response) == "NO RESULT"
    assert "data-stale" in response.text
    assert 'content="0; url=?max_age=5.000"' in response.text
    assert services.state().store.latest_results() == {}, "no test has run"


def test_browser__refresh_without_scripts(site: Site) -> None:
    """The refresh URL runs the tests before it responds, and its page does not refresh again."""
    response = site(MIXED).get("/smoketest/?max_age=5.000", headers=BROWSER)
    assert response.status_code == 200
    assert status_on_page(response) == "FAIL"
    assert visible_tests(response) == ["test_bad", "test_worse", "test_good"]
    assert "data-stale" not in response.text
    assert "http-equiv" not in response.text


def test_browser__stored_result(site: Site) -> None:
    """A fresh result is served with status 200, even if tests fail, since the page itself works."""
    client = site(MIXED, SMOKETEST_MAX_AGE=600)
    run(client)
    response = client.get("/smoketest/", headers=BROWSER)
    assert response.status_code == 200
    assert int(response.headers["Age"]) >= 1  # rounded up
    assert status_on_page(response) == "FAIL"
    assert "data-stale" not in response.text
    assert "1 != 2" in response.text


@pytest.mark.parametrize("header", ["no-cache", "max-age=0"])
def test_browser__stale_result(site: Site, header: str) -> None:
    """A stale result is served immediately and marked, so that the browser requests a new run."""
    client = site(PASSES)
    run(client)
    response = client.get("/smoketest/", headers={**BROWSER, "cache-control": header})
    assert status_on_page(response) == "PASS"
    assert "data-stale" in response.text


def test_browser__result_of_another_release(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result from before a deployment is visible_tests but treated as stale."""
    client = site(PASSES)
    run(client)
    config = registry.get_app_config("smoketest")
    monkeypatch.setattr(config, "code_loaded_at", time.monotonic())
    response = client.get("/smoketest/", headers=BROWSER)
    assert status_on_page(response) == "PASS"
    assert "data-stale" in response.text


def test_browser__newer_result_of_one_test(site: Site, tmp_path: Path) -> None:
    """The page shows the latest result of each test, including runs of a single test."""
    disk_is_free = tmp_path / "disk_is_free"
    client = site(
        f"""
        from pathlib import Path

        class T(SmokeTest):
            def test_disk(self):
                self.assertTrue(Path({str(disk_is_free)!r}).exists(), "the disk is full")
            def test_other(self):
                pass
        """
    )
    run(client)
    assert status_on_page(client.get("/smoketest/", headers=BROWSER)) == "FAIL"
    disk_is_free.touch()
    run(client, "?test=app0.smoke.T.test_disk")
    response = client.get("/smoketest/", headers=BROWSER)
    assert status_on_page(response) == "PASS"
    assert "1 test has run again since then." in response.text


@pytest.mark.parametrize(
    ("headers", "is_browser"),
    [
        ({"sec-fetch-dest": "document"}, True),
        ({"sec-fetch-dest": "iframe"}, False),
        ({"sec-fetch-dest": "empty"}, False),
        ({"sec-fetch-dest": "empty", "x-requested-with": "smoketest"}, True),
        ({"upgrade-insecure-requests": "1"}, True),
        ({"upgrade-insecure-requests": "1", "sec-fetch-dest": "empty"}, False),
        ({}, False),
    ],
)
def test_is_browser(site: Site, headers: dict[str, str], is_browser: bool) -> None:
    """Browsers are recognized by fetch metadata, or by the header that the page's script sends."""
    response = site(MIXED).get("/smoketest/?format=html", headers=headers)
    assert response.status_code == (200 if is_browser else 500)


def test_non_browser(site: Site) -> None:
    """Other clients get the page after the run, with the status code of the run."""
    client = site(MIXED)
    response = client.get("/smoketest/", headers=PROGRAM)
    assert (response.status_code, status_on_page(response)) == (500, "FAIL")
    assert response.headers["Age"] == "0"
    passing = client.get("/smoketest/?test=app0.smoke.T.test_good", headers=PROGRAM)
    assert (passing.status_code, status_on_page(passing)) == (200, "PASS")


def test_selection(site: Site) -> None:
    """The page shows that it covers only a selection."""
    client = site(MIXED)
    run(client)
    response = client.get("/smoketest/?tag=readiness", headers=BROWSER)
    assert status_on_page(response) == "PASS"
    assert visible_tests(response) == ["test_good"]
    assert "Selection: tag readiness." in response.text
    assert '<input type="hidden" name="tag" value="readiness">' in response.text


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("q=GOO", ["test_good"]),
        ("outcome=problem", ["test_bad", "test_worse"]),
        ("outcome=errored", ["test_worse"]),
        ("app=app0&outcome=passed", ["test_good"]),
        ("app=elsewhere", []),
        ("q=&app=&tag=&outcome=", ["test_bad", "test_worse", "test_good"]),
    ],
)
def test_filter(site: Site, query: str, names: list[str]) -> None:
    """Filters are query parameters, work without scripts, and do not change the status."""
    client = site(MIXED)
    run(client)
    response = client.get(f"/smoketest/?{query}", headers=BROWSER)
    assert visible_tests(response) == names
    assert status_on_page(response) == "FAIL"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("outcome=bad", "must be one of problem, passed, failed"),
        ("outcom=failed", "Did you mean outcome?"),
        ("q=a&q=b", "q is given 2 times"),
        ("test=", "The parameter test is empty"),
        ("q=<script>&format=html&format=<b>", "format is given 2 times"),
    ],
)
def test_invalid_parameter(site: Site, query: str, words: str) -> None:
    """An invalid parameter returns 400 and lists the valid values."""
    response = site(PASSES).get(f"/smoketest/?{query}", headers=BROWSER)
    assert response.status_code == 400
    assert words in response.text.replace("&#x27;", "'")
    assert "<script>" not in response.text
    assert response.headers["Content-Security-Policy"] == pages.POLICY


@pytest.mark.parametrize("name", ["q", "app", "outcome"])
def test_filter__rejected_by_other_formats(site: Site, name: str) -> None:
    """Filter parameters are rejected by the other formats instead of being ignored."""
    response = site(PASSES).get(f"/smoketest/?format=json&{name}=x")
    assert response.status_code == 400
    assert f"Unknown parameter '{name}'" in response.text


def test_no_tests(site: Site) -> None:
    response = site(None).get("/smoketest/?max_age=0", headers=BROWSER)
    assert response.status_code == 404
    assert "This site has no smoke tests. Create a smoke.py module" in response.text


def test_paused(site: Site) -> None:
    """A paused site shows the pause and the stored results, and starts no run."""
    client = site(MIXED)
    run(client)
    store = services.state().store
    store.pause(Pause(until=time.time() + 600, reason="the <new> disk"))
    response = client.get("/smoketest/", headers={**BROWSER, "cache-control": "no-cache"})
    assert status_on_page(response) == "FAIL"
    assert "the &lt;new&gt; disk" in response.text
    assert "data-stale" not in response.text
    assert "http-equiv" not in response.text


@pytest.mark.parametrize("url", ["/smoketest/", "/smoketest/test/app0.smoke.T.test_bad/"])
def test_tracebacks(site: Site, url: str) -> None:
    """Only requests with full access see tracebacks."""
    client = site(MIXED)
    run(client)
    trace = "in test_bad"
    assert trace not in client.get(url, headers=BROWSER).text
    with override_settings(DEBUG=True):
        assert trace in client.get(url, headers=BROWSER).text
    with override_settings(SMOKETEST_TOKENS=[TOKEN]):
        headers = {**BROWSER, "authorization": f"Bearer {TOKEN}"}
        assert trace in client.get(url, headers=headers).text


@pytest.mark.parametrize("method", ["get", "post", "head"])
@pytest.mark.parametrize("name", ["index", "test", "asset"])
def test_unauthenticated(site: Site, method: str, name: str) -> None:
    """If tokens are configured, unauthenticated requests get 401 on every path and run no test."""
    client = site(MIXED, SMOKETEST_TOKENS=[TOKEN], SMOKETEST_PUBLIC_STATUS=name != "index")
    url = {
        "index": "/smoketest/",
        "test": "/smoketest/test/app0.smoke.T.test_bad/",
        "asset": reverse("smoketest:asset", args=["page.css"]),
    }[name]
    response = getattr(client, method)(url, headers=BROWSER)
    assert response.status_code == 401
    assert "WWW-Authenticate" in response.headers
    assert services.state().store.latest_results() == {}


def test_unreadable_store(site: Site, tmp_path: Path) -> None:
    """The page shows why it has no results; only requests with full access see the path."""
    client = site(PASSES)
    run(client)
    with sqlite3.connect(tmp_path / "state" / "results.sqlite3") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    response = client.get("/smoketest/", headers=BROWSER)
    assert response.status_code == 200
    assert "The stored results cannot be read." in response.text
    with override_settings(DEBUG=True):
        assert "results.sqlite3" in client.get("/smoketest/", headers=BROWSER).text
    test = client.get("/smoketest/test/app0.smoke.T.test_good/", headers=BROWSER)
    assert test.status_code == 503
    program = client.get("/smoketest/?format=html")
    assert (program.status_code, status_on_page(program)) == (200, "PASS")


class SubclassedView(IndexView):
    """Subclass without changes, as supported by 1.x."""


urlpatterns = [path("own/", SubclassedView.as_view())]


def test_view_without_included_urls(site: Site) -> None:
    """Without the URLconf of this package, the view cannot link to pages and returns text."""
    client = site(PASSES, ROOT_URLCONF=__name__, SMOKETEST_PUBLIC_URL="https://shop.example")
    response = client.get("/own/", headers=BROWSER)
    assert response.status_code == 200
    assert response.text.startswith("PASS\n")
    response = client.get("/own/?foo=1", headers=BROWSER)
    assert response.status_code == 400
    assert response.text.startswith("Unknown parameter 'foo'")
    assert client.post("/own/", headers=BROWSER).status_code == 405


# -- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "/smoketest/",
        "/smoketest/?format=html&max_age=0",
        "/smoketest/?format=html&tag=none&max_age=0",
        "/smoketest/test/app0.smoke.T.test_good/",
        "/smoketest/test/unknown/",
    ],
)
def test_headers(site: Site, url: str) -> None:
    """The security headers forbid framing, scripts of other origins and caching."""
    client = site(PASSES)
    run(client)
    headers = client.get(url, headers=BROWSER).headers
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert not any("unsafe" in sources or "http" in sources for sources in policy.values())
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store, private"


@pytest.mark.parametrize("url", ["/smoketest/", "/smoketest/test/app0.smoke.T.test_bad/"])
def test_no_inline_code(site: Site, url: str) -> None:
    """Pages have no inline styles, scripts or event handlers, and no URLs of other hosts."""
    client = site(MIXED)
    run(client)
    source = client.get(url, headers=BROWSER).text
    assert "<style" not in source
    assert not re.search(r"<script(?! type=\"module\" src=\"/smoketest/assets/)", source)
    assert not re.search(r"\s(style|on\w+)=", source)
    assert not re.search(r"(src|href|action)=\"(?!/smoketest/)", source)


# -- forms ----------------------------------------------------------------------------------------


def strict() -> Client:
    return Client(enforce_csrf_checks=True)


def token_of(client: Client, url: str = "/smoketest/") -> str:
    response = client.get(url, headers=BROWSER)
    return re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', response.text)[0]


@pytest.mark.parametrize("middleware", [[], ["django.middleware.csrf.CsrfViewMiddleware"]])
def test_form(site: Site, middleware: list[str]) -> None:
    """A button runs its test and redirects to the page with the result."""
    site(MIXED, MIDDLEWARE=middleware)
    client = strict()
    form = {"csrfmiddlewaretoken": token_of(client), "test": "app0.smoke.T.test_bad"}
    response = client.post("/smoketest/", form, headers=BROWSER)
    assert response.status_code == 303
    assert response.headers["Location"] == "/smoketest/?test=app0.smoke.T.test_bad"
    page = client.get(response.headers["Location"], headers=BROWSER)
    assert (status_on_page(page), visible_tests(page)) == ("FAIL", ["test_bad"])
    assert "data-stale" not in page.text


def test_form__ignores_fresh_result(site: Site) -> None:
    """A button runs the tests even if a fresh result is stored."""
    client = site(PASSES)
    run(client)
    before = services.state().store.latest_results()
    assert client.post("/smoketest/").headers["Location"] == "/smoketest/"
    assert services.state().store.latest_results() != before


def test_form__selection(site: Site) -> None:
    """The form redirects to the page of the selection that it ran."""
    form = {"test": ["app0", "app0.smoke", ""], "tag": "db", "exclude_tag": "x y", "failfast": "1"}
    response = site(MIXED).post("/smoketest/", form)
    assert response.headers["Location"] == (
        "/smoketest/?test=app0&test=app0.smoke&tag=db&exclude_tag=x+y&failfast=1"
    )
    assert response.status_code == 303


def test_form__nothing_matches(site: Site) -> None:
    response = site(PASSES).post("/smoketest/", {"test": "<b>"})
    assert response.status_code == 404
    assert "No smoke test matches test &lt;b&gt;." in response.text


@pytest.mark.parametrize("url", ["/smoketest/", "/smoketest/test/app0.smoke.T.test_good/"])
@pytest.mark.parametrize("form", [{}, {"csrfmiddlewaretoken": "x" * 64}])
def test_form__forged(site: Site, url: str, form: dict[str, str]) -> None:
    """A forged cross-site form runs no test."""
    site(PASSES)
    client = strict()
    token_of(client)
    response = client.post(url, form, headers=BROWSER)
    assert response.status_code == 403
    assert "Reload the page" in response.text
    assert services.state().store.latest_results() == {}


def test_form__no_session(site: Site) -> None:
    """The page is served even if the CSRF token is stored in a session that is unavailable."""
    client = site(PASSES, CSRF_USE_SESSIONS=True)
    response = client.get("/smoketest/", headers=BROWSER)
    assert response.status_code == 200
    assert 'name="csrfmiddlewaretoken" value=""' in response.text
    assert strict().post("/smoketest/").status_code == 403


# -- page of a single test ------------------------------------------------------------------------


def test_details(site: Site) -> None:
    """The page shows the latest result of a test and its history."""
    client = site(MIXED)
    run(client)
    run(client)
    response = client.get(reverse("smoketest:test", args=["app0.smoke.T.test_worse"]))
    assert response.status_code == 200
    assert "Failing since" in response.text
    assert "no such thing" in response.text
    assert 'aria-label="Last 2 runs: 2 errored"' in response.text
    assert response.text.count("<tr>") == 3


def test_details__source(site: Site) -> None:
    """The source location is visible_tests only with full access."""
    client = site(MIXED, DEBUG=True)
    run(client)
    response = client.get("/smoketest/test/app0.smoke.T.test_bad/")
    assert re.search(r"app0/smoke\.py:\d+<", response.text)


def test_details__button(site: Site) -> None:
    """The button runs only this test and redirects back to its page."""
    site(MIXED)
    client = strict()
    url = "/smoketest/test/app0.smoke.T.test_bad/"
    form = {"csrfmiddlewaretoken": token_of(client), "test": "app0.smoke.T.test_bad"}
    response = client.post(url, form, headers=BROWSER)
    assert (response.status_code, response.headers["Location"]) == (303, url)
    assert list(services.state().store.latest_results()) == ["app0.smoke.T.test_bad"]


def test_details__button_runs_only_this_test(site: Site) -> None:
    """The form ignores other fields, and an unknown test runs nothing."""
    client = site(MIXED)
    client.post("/smoketest/test/app0.smoke.T.test_bad/", {"test": "app0"})
    client.post("/smoketest/test/app0.smoke.T.test_bad/")
    assert list(services.state().store.latest_results()) == ["app0.smoke.T.test_bad"]
    assert client.post("/smoketest/test/unknown/").status_code == 404
    assert list(services.state().store.latest_results()) == ["app0.smoke.T.test_bad"]


@pytest.mark.parametrize(
    "test_id", ["none", "app0.smoke", "a/b", "<b>", "é", "%00", "../x", "x" * 900]
)
def test_details__unknown(site: Site, test_id: str) -> None:
    client = site(MIXED)
    run(client)
    response = client.get(f"/smoketest/test/{quote(test_id, safe='')}/", headers=BROWSER)
    assert response.status_code == 404
    assert "Unknown smoke test" in response.text
    assert "<b>" not in response.text


def test_details__special_characters(site: Site) -> None:
    """A test with special characters in its name has a working page."""
    client = site("class T(SmokeTest):\n    pass\nsetattr(T, 'test_a/b <c>?é', lambda self: None)")
    run(client)
    index = client.get("/smoketest/", headers=BROWSER)
    (url,) = set(re.findall(r'href="(/smoketest/test/[^"]*)"', index.text))
    response = client.get(url)
    assert response.status_code == 200
    assert "T.test_a/b &lt;c&gt;?é" in response.text


# -- static files ---------------------------------------------------------------------------------


def test_assets(site: Site) -> None:
    """Every file that a page references exists and may be cached for a year."""
    client = site(PASSES)
    source = client.get("/smoketest/", headers=BROWSER).text
    urls = re.findall(r'(?:src|href)="(/smoketest/assets/[^"]*)"', source)
    assert len(urls) == 3
    for url in urls:
        response = client.get(url)
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "private, max-age=31536000, immutable"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        again = client.get(url, headers={"if-none-match": response.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
    types = [client.get(url).headers["Content-Type"] for url in urls]
    assert types == ["image/svg+xml", "text/css; charset=utf-8", "text/javascript; charset=utf-8"]


def test_assets__of_another_release(site: Site) -> None:
    """During a rolling deployment, a request for another release's file gets the current file."""
    client = site(PASSES)
    for name in ("page.0123456789abcdef.css", "page.css"):
        response = client.get(f"/smoketest/assets/{name}")
        assert response.content == pages.assets()["page.css"].content
        assert response.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("name", ["none.css", "page.py", "..%2Fviews.py", "page..css", "%00", "."])
def test_assets__unknown(site: Site, name: str) -> None:
    assert site(PASSES).get(f"/smoketest/assets/{name}").status_code == 404


def test_assets__size() -> None:
    """The static files are small enough for a slow mobile connection."""
    assert sum(len(asset.content) for asset in pages.assets().values()) < 24_000
    lines = pages.assets()["page.js"].content.decode().splitlines()
    code = [line for line in lines if line.strip() and not line.lstrip().startswith(("//", "/**"))]
    assert len(code) < 200


# -- many tests -----------------------------------------------------------------------------------


def many_tests(count: int) -> str:
    tests = "\n".join(f"    def test_{i}(self): self.assertTrue({i % 50})" for i in range(count))
    return f"class T(SmokeTest):\n{tests}"


def processor_time(client: Client) -> float:
    """Return the processor time of the page in seconds, the minimum of several requests."""
    seconds = []
    for _ in range(4):
        began = time.thread_time()
        client.get("/smoketest/", headers=BROWSER)
        seconds.append(time.thread_time() - began)
    return min(seconds)


def test_many_tests(site: Site) -> None:
    """The page shows 500 tests with their history, in time proportional to their number."""
    client = site(many_tests(50))
    for _ in range(3):
        run(client)
    of_50 = processor_time(client)
    client = site(many_tests(450))
    for _ in range(3):
        run(client)
    response = client.get("/smoketest/", headers=BROWSER)
    assert len(visible_tests(response)) == 500
    failing = re.search(r'<button id="run-failing">', response.text)
    assert failing
    assert response.text.count('name="test" value=') == 10 + 500
    assert processor_time(client) < 30 * of_50, (
        "expected about 5 times the time for 10 times as many tests"
    )


def test_script_handles_events(site: Site) -> None:
    """The script handles every event type, and reads only fields that the events contain."""
    script = pages.assets()["page.js"].content.decode()
    client = site(MIXED)
    response = client.get("/smoketest/?format=ndjson", headers={"cache-control": "no-cache"})
    lines = [json.loads(line) for line in b"".join(response.streaming_content).splitlines()]  # type: ignore[attr-defined]
    assert {line["event"] for line in lines} == {"start", "running", "test", "report"}
    for line in lines:
        assert f'"{line["event"]}"' in script
    read = set(re.findall(r"\blast\.(\w+)", script))
    assert read <= {key for line in lines for key in line} | {"message"}


@pytest.mark.parametrize("headers", [BROWSER, {"Accept": "text/html"}])
def test_notice__results_are_not_shared(
    site: Site, tmp_path: Path, headers: dict[str, str]
) -> None:
    """Each process has its own results, which a reader of the page must know."""
    client = site(PASSES)
    assert "keeps its own results" not in client.get("/smoketest/", headers=headers).text
    file = tmp_path / "file"
    file.touch()
    with override_settings(SMOKETEST_STATE_DIR=str(file)):
        page = client.get("/smoketest/", headers=headers).text
        assert "Each process of the site keeps its own results" in page
        assert str(file) not in page
        with override_settings(DEBUG=True):
            assert f"{file} cannot be created" in client.get("/smoketest/", headers=headers).text
