"""The pages for people, as browsers and scripts get them."""

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


def shown(response: Any) -> list[str]:
    """The names of the tests that are not hidden, in their order."""
    rows = re.findall(r'data-test="[\w.]+\.(\w+)"[^>]*?( hidden)?>', response.text)
    return [name for name, hidden in rows if not hidden]


def verdict(response: Any) -> str:
    (words,) = re.findall(r'<h1 id="verdict"[^>]*>([^<]*)', response.text)
    return str(words)


def run(client: Client, query: str = "") -> None:
    """Run tests, so that their results are stored."""
    client.get(f"/smoketest/{query}", headers={"cache-control": "no-cache"})


# -- the index ------------------------------------------------------------------------------------


def test_browser__before_any_run(site: Site) -> None:
    """The page comes at once, without a result; script or no script, a run follows."""
    client = site(PASSES)
    response = client.get("/smoketest/", headers=BROWSER)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store, private"
    assert verdict(response) == "NO RESULT"
    assert "data-stale" in response.text
    assert 'content="0; url=?max_age=5.000"' in response.text
    assert services.state().store.latest_results() == {}, "nothing has run"


def test_browser__led_on_without_scripts(site: Site) -> None:
    """Where the page leads without scripts, the tests run before it comes, and it leads no more."""
    response = site(MIXED).get("/smoketest/?max_age=5.000", headers=BROWSER)
    assert response.status_code == 200
    assert verdict(response) == "FAIL"
    assert shown(response) == ["test_bad", "test_worse", "test_good"]
    assert "data-stale" not in response.text
    assert "http-equiv" not in response.text


def test_browser__stored_result(site: Site) -> None:
    """A fresh result is shown as it is: 200, as the page is there, whatever it says."""
    client = site(MIXED, SMOKETEST_MAX_AGE=600)
    run(client)
    response = client.get("/smoketest/", headers=BROWSER)
    assert response.status_code == 200
    assert int(response.headers["Age"]) >= 1  # rounded up
    assert verdict(response) == "FAIL"
    assert "data-stale" not in response.text
    assert "1 != 2" in response.text


@pytest.mark.parametrize("header", ["no-cache", "max-age=0"])
def test_browser__stale_result(site: Site, header: str) -> None:
    """One that is too old for the reader is shown all the same, while another run begins."""
    client = site(PASSES)
    run(client)
    response = client.get("/smoketest/", headers={**BROWSER, "cache-control": header})
    assert verdict(response) == "PASS"
    assert "data-stale" in response.text


def test_browser__result_of_other_code(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result from before a deployment is shown, and not taken for fresh."""
    client = site(PASSES)
    run(client)
    config = registry.get_app_config("smoketest")
    monkeypatch.setattr(config, "code_loaded_at", time.monotonic())
    response = client.get("/smoketest/", headers=BROWSER)
    assert verdict(response) == "PASS"
    assert "data-stale" in response.text


def test_browser__test_ran_again_since(site: Site, tmp_path: Path) -> None:
    """The page shows each test as it is now, also if it alone ran since."""
    mended = tmp_path / "mended"
    client = site(
        f"""
        from pathlib import Path

        class T(SmokeTest):
            def test_disk(self):
                self.assertTrue(Path({str(mended)!r}).exists(), "the disk is full")
            def test_other(self):
                pass
        """
    )
    run(client)
    assert verdict(client.get("/smoketest/", headers=BROWSER)) == "FAIL"
    mended.touch()
    run(client, "?test=app0.smoke.T.test_disk")
    response = client.get("/smoketest/", headers=BROWSER)
    assert verdict(response) == "PASS"
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
    """Who is a person: by what browsers send, over HTTPS or not, and by what our script sends."""
    response = site(MIXED).get("/smoketest/?format=html", headers=headers)
    assert response.status_code == (200 if is_browser else 500)


def test_program(site: Site) -> None:
    """A client that is no browser gets the page after the run, with the status of the run."""
    client = site(MIXED)
    response = client.get("/smoketest/", headers=PROGRAM)
    assert (response.status_code, verdict(response)) == (500, "FAIL")
    assert response.headers["Age"] == "0"
    passing = client.get("/smoketest/?test=app0.smoke.T.test_good", headers=PROGRAM)
    assert (passing.status_code, verdict(passing)) == (200, "PASS")


def test_selection(site: Site) -> None:
    """The page shows what is selected, and that it is not all."""
    client = site(MIXED)
    run(client)
    response = client.get("/smoketest/?tag=readiness", headers=BROWSER)
    assert verdict(response) == "PASS"
    assert shown(response) == ["test_good"]
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
    """Filters are in the address, work without scripts, and leave the status alone."""
    client = site(MIXED)
    run(client)
    response = client.get(f"/smoketest/?{query}", headers=BROWSER)
    assert shown(response) == names
    assert verdict(response) == "FAIL"


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
def test_wrong_parameter(site: Site, query: str, words: str) -> None:
    """400 says what is allowed."""
    response = site(PASSES).get(f"/smoketest/?{query}", headers=BROWSER)
    assert response.status_code == 400
    assert words in response.text.replace("&#x27;", "'")
    assert "<script>" not in response.text
    assert response.headers["Content-Security-Policy"] == pages.POLICY


@pytest.mark.parametrize("name", ["q", "app", "outcome"])
def test_filter__of_the_page_alone(site: Site, name: str) -> None:
    """No other format filters what it shows, and none ignores a parameter in silence."""
    response = site(PASSES).get(f"/smoketest/?format=json&{name}=x")
    assert response.status_code == 400
    assert f"Unknown parameter '{name}'" in response.text


def test_no_tests(site: Site) -> None:
    """404 and what to do, as a page."""
    response = site(None).get("/smoketest/?max_age=0", headers=BROWSER)
    assert response.status_code == 404
    assert "This site has no smoke tests. Create a smoke.py module" in response.text


def test_paused(site: Site) -> None:
    """The page says so, shows what is known and starts nothing."""
    client = site(MIXED)
    run(client)
    store = services.state().store
    store.pause(Pause(until=time.time() + 600, reason="the <new> disk"))
    response = client.get("/smoketest/", headers={**BROWSER, "cache-control": "no-cache"})
    assert verdict(response) == "FAIL"
    assert "the &lt;new&gt; disk" in response.text
    assert "data-stale" not in response.text
    assert "http-equiv" not in response.text


@pytest.mark.parametrize("url", ["/smoketest/", "/smoketest/test/app0.smoke.T.test_bad/"])
def test_tracebacks(site: Site, url: str) -> None:
    """Those let in by a token see tracebacks and sources, visitors of an open site do not."""
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
def test_outsiders(site: Site, method: str, name: str) -> None:
    """With tokens, outsiders get 401 on every path, whatever they send, and nothing runs."""
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


def test_store_cannot_be_read(site: Site, tmp_path: Path) -> None:
    """The page says why it shows nothing, with paths for insiders alone."""
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
    assert (program.status_code, verdict(program)) == (200, "PASS")


class SubclassedView(IndexView):
    """What a user of 1.x may have done."""


urlpatterns = [path("own/", SubclassedView.as_view())]


def test_view_without_our_urls(site: Site) -> None:
    """A view that stands alone has no page to link to: it answers with text."""
    client = site(PASSES, ROOT_URLCONF=__name__, SMOKETEST_PUBLIC_URL="https://shop.example")
    response = client.get("/own/", headers=BROWSER)
    assert response.status_code == 200
    assert response.text.startswith("PASS\n")
    response = client.get("/own/?foo=1", headers=BROWSER)
    assert response.status_code == 400
    assert response.text.startswith("Unknown parameter 'foo'")
    assert client.post("/own/", headers=BROWSER).status_code == 405


# -- the headers ----------------------------------------------------------------------------------


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
    """A browser may do nothing with a page but show it."""
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
def test_nothing_inline(site: Site, url: str) -> None:
    """No style, script or handler in the page itself, and no address of another host."""
    client = site(MIXED)
    run(client)
    source = client.get(url, headers=BROWSER).text
    assert "<style" not in source
    assert not re.search(r"<script(?! type=\"module\" src=\"/smoketest/assets/)", source)
    assert not re.search(r"\s(style|on\w+)=", source)
    assert not re.search(r"(src|href|action)=\"(?!/smoketest/)", source)


# -- the forms ------------------------------------------------------------------------------------


def strict() -> Client:
    return Client(enforce_csrf_checks=True)


def token_of(client: Client, url: str = "/smoketest/") -> str:
    response = client.get(url, headers=BROWSER)
    return re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', response.text)[0]


@pytest.mark.parametrize("middleware", [[], ["django.middleware.csrf.CsrfViewMiddleware"]])
def test_form(site: Site, middleware: list[str]) -> None:
    """A button runs its test, and leads to the page that shows it."""
    site(MIXED, MIDDLEWARE=middleware)
    client = strict()
    form = {"csrfmiddlewaretoken": token_of(client), "test": "app0.smoke.T.test_bad"}
    response = client.post("/smoketest/", form, headers=BROWSER)
    assert response.status_code == 303
    assert response.headers["Location"] == "/smoketest/?test=app0.smoke.T.test_bad"
    page = client.get(response.headers["Location"], headers=BROWSER)
    assert (verdict(page), shown(page)) == ("FAIL", ["test_bad"])
    assert "data-stale" not in page.text


def test_form__runs_although_a_result_is_fresh(site: Site) -> None:
    """Whoever presses a button means now."""
    client = site(PASSES)
    run(client)
    before = services.state().store.latest_results()
    assert client.post("/smoketest/").headers["Location"] == "/smoketest/"
    assert services.state().store.latest_results() != before


def test_form__selection(site: Site) -> None:
    """The page that follows is that of what was run."""
    form = {"test": ["app0", "app0.smoke", ""], "tag": "db", "exclude_tag": "x y", "failfast": "1"}
    response = site(MIXED).post("/smoketest/", form)
    assert response.headers["Location"] == (
        "/smoketest/?test=app0&test=app0.smoke&tag=db&exclude_tag=x+y&failfast=1"
    )
    assert response.status_code == 303


def test_form__nothing_matches(site: Site) -> None:
    """As the index says it."""
    response = site(PASSES).post("/smoketest/", {"test": "<b>"})
    assert response.status_code == 404
    assert "No smoke test matches test &lt;b&gt;." in response.text


@pytest.mark.parametrize("url", ["/smoketest/", "/smoketest/test/app0.smoke.T.test_good/"])
@pytest.mark.parametrize("form", [{}, {"csrfmiddlewaretoken": "x" * 64}])
def test_form__forged(site: Site, url: str, form: dict[str, str]) -> None:
    """A form of another site runs nothing."""
    site(PASSES)
    client = strict()
    token_of(client)
    response = client.post(url, form, headers=BROWSER)
    assert response.status_code == 403
    assert "Reload the page" in response.text
    assert services.state().store.latest_results() == {}


def test_form__no_session(site: Site) -> None:
    """Where the token would be in a session that cannot be had, the page comes all the same."""
    client = site(PASSES, CSRF_USE_SESSIONS=True)
    response = client.get("/smoketest/", headers=BROWSER)
    assert response.status_code == 200
    assert 'name="csrfmiddlewaretoken" value=""' in response.text
    assert strict().post("/smoketest/").status_code == 403


# -- the page of one test -------------------------------------------------------------------------


def test_details(site: Site) -> None:
    """What is known of the test, with its history."""
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
    """Where it is written, for those let in."""
    client = site(MIXED, DEBUG=True)
    run(client)
    response = client.get("/smoketest/test/app0.smoke.T.test_bad/")
    assert re.search(r"app0/smoke\.py:\d+<", response.text)


def test_details__button(site: Site) -> None:
    """Runs the one test, and leads back to its page."""
    site(MIXED)
    client = strict()
    url = "/smoketest/test/app0.smoke.T.test_bad/"
    form = {"csrfmiddlewaretoken": token_of(client), "test": "app0.smoke.T.test_bad"}
    response = client.post(url, form, headers=BROWSER)
    assert (response.status_code, response.headers["Location"]) == (303, url)
    assert list(services.state().store.latest_results()) == ["app0.smoke.T.test_bad"]


def test_details__button_means_this_test(site: Site) -> None:
    """Whatever else the form says, and if there is no such test, none runs."""
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
    """404 says what to do."""
    client = site(MIXED)
    run(client)
    response = client.get(f"/smoketest/test/{quote(test_id, safe='')}/", headers=BROWSER)
    assert response.status_code == 404
    assert "Unknown smoke test" in response.text
    assert "<b>" not in response.text


def test_details__odd_name(site: Site) -> None:
    """Each test has a page, whatever it is called."""
    client = site("class T(SmokeTest):\n    pass\nsetattr(T, 'test_a/b <c>?é', lambda self: None)")
    run(client)
    index = client.get("/smoketest/", headers=BROWSER)
    (url,) = set(re.findall(r'href="(/smoketest/test/[^"]*)"', index.text))
    response = client.get(url)
    assert response.status_code == 200
    assert "T.test_a/b &lt;c&gt;?é" in response.text


# -- the files ------------------------------------------------------------------------------------


def test_assets(site: Site) -> None:
    """Each file that a page names is there, for as long as browsers like to keep it."""
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
    """While a release is rolled out, a page may ask for a file of the other one: it gets ours."""
    client = site(PASSES)
    for name in ("page.0123456789abcdef.css", "page.css"):
        response = client.get(f"/smoketest/assets/{name}")
        assert response.content == pages.assets()["page.css"].content
        assert response.headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("name", ["none.css", "page.py", "..%2Fviews.py", "page..css", "%00", "."])
def test_assets__unknown(site: Site, name: str) -> None:
    """No other file can be had."""
    assert site(PASSES).get(f"/smoketest/assets/{name}").status_code == 404


def test_assets__are_small() -> None:
    """The page is read in a hurry, maybe on a telephone."""
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
    assert len(shown(response)) == 500
    failing = re.search(r'<button id="run-failing">', response.text)
    assert failing
    assert response.text.count('name="test" value=') == 10 + 500
    assert processor_time(client) < 30 * of_50, "about five times, for ten times as many tests"


def test_events_feed_the_page(site: Site) -> None:
    """The script reads what the site streams: the names of events and fields agree."""
    script = pages.assets()["page.js"].content.decode()
    client = site(MIXED)
    response = client.get("/smoketest/?format=ndjson", headers={"cache-control": "no-cache"})
    lines = [json.loads(line) for line in b"".join(response.streaming_content).splitlines()]  # type: ignore[attr-defined]
    assert {line["event"] for line in lines} == {"start", "running", "test", "report"}
    for line in lines:
        assert f'"{line["event"]}"' in script
    read = set(re.findall(r"\blast\.(\w+)", script))
    assert read <= {key for line in lines for key in line} | {"message"}
