"""HTTP responses of the endpoints."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import clear_script_prefix, include, path, reverse
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from smoketest import services
from smoketest.results import utc
from smoketest.store import Pause
from smoketest.store.locks import HostLock
from smoketest.views import IndexView, MetricsView
from tests.conftest import Site
from tests.hanging import assert_hanging, begun, released, reset
from tests.servers.processes import wait_for

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

PASSES = """
class T(SmokeTest):
    maintainer = "web"
    @tag("db", "readiness")
    def test_read(self):
        Account.objects.count()
    @tag("db")
    def test_write(self):
        Account.objects.create(name="smoke")
"""
FAILS = """
class T(SmokeTest):
    def test_bad(self):
        self.assertEqual(1, 2)
    def test_good(self):
        pass
    def test_worse(self):
        raise ValueError("no such thing")
"""


def test_url_names() -> None:
    """The URL names of 1.x and of the metrics are defined."""
    assert reverse("smoketest:smoketest") == "/smoketest/"
    assert reverse("smoketest:metrics") == "/smoketest/metrics"


def test_index__pass(site: Site) -> None:
    """A passing run has status 200 and the text format of 1.x, which must not be cached."""
    response = site(PASSES).get("/smoketest/")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store, private"
    assert response.headers["Vary"] == "Accept"
    assert response.headers["Age"] == "0"
    assert response.text.startswith("PASS\ntest classes: 1\ntests run: 2\ntests passed: 2\n")


def test_index__fail(site: Site) -> None:
    """A failing run has status 500 and lists its problems."""
    response = site(FAILS).get("/smoketest/")
    assert response.status_code == 500
    assert response.text.startswith("FAIL\n")
    assert response.text.endswith(
        "\n\napp0.smoke.T.test_bad failed: 1 != 2\n\napp0.smoke.T.test_worse errored: no such thing"
    )


def test_index__failing_warning(site: Site) -> None:
    """A failing test of severity warning is reported, and the status is 200."""
    client = site(FAILS.replace("(SmokeTest):", "(SmokeTest):\n    severity = 'warning'"))
    response = client.get("/smoketest/", headers={"accept": "application/json"})
    assert response.status_code == 200
    assert response.json()["status"] == "PASS"
    assert response.json()["tests_failed"] == 1
    assert len(response.json()["warnings"]) == 2


def test_index__failure_logging(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """A failing run is logged by the package, but not by django.request, which may mail admins."""
    client = site(FAILS)
    assert client.get("/smoketest/").status_code == 500
    assert client.get("/smoketest/?only_if_cached=1&tag=x").status_code == 504
    assert {record.name for record in caplog.records} == {"smoketest.problems"}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "text/plain"),
        ("*/*", "text/plain"),
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/plain, application/json;q=0.5", "text/plain"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("image/png", "text/plain"),
        (";;;,/,q=x", "text/plain"),
        ("", "text/plain"),
        ("x" * 20_000, "text/plain"),
    ],
)
def test_index__format_by_accept(site: Site, accept: str | None, media_type: str) -> None:
    """Accept selects the format; the default is text."""
    headers = {} if accept is None else {"accept": accept}
    response = site(PASSES).get("/smoketest/", headers=headers)
    charset = "; charset=utf-8" if media_type.startswith("text/") else ""
    assert response.headers["Content-Type"] == f"{media_type}{charset}"


@pytest.mark.parametrize("query", ["", "?format=json", "?format=ndjson", "?format=html", "?x=1"])
def test_index__head_has_no_body(site: Site, query: str) -> None:
    """The headers are those of GET. Django's test client would remove the body itself."""
    site(PASSES)
    view = IndexView.as_view()
    response = view(RequestFactory().head(f"/smoketest/{query}"))
    assert response.content == b""
    assert not response.streaming
    assert int(response["Content-Length"]) > 0
    if query in {"", "?x=1"}:
        body = view(RequestFactory().get(f"/smoketest/{query}")).content
        assert int(response["Content-Length"]) == len(body)


def test_metrics__head_has_no_body(site: Site) -> None:
    site(PASSES)
    response = MetricsView.as_view()(RequestFactory().head("/smoketest/metrics"))
    assert (response.status_code, response.content) == (200, b"")
    assert int(response["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("?test=nothing", 404),
        ("?x=1", 400),
        ("?only_if_cached=1", 504),
    ],
)
def test_index__json_errors_have_the_keys_of_1x(site: Site, path: str, status: int) -> None:
    """Code that reads only the keys of 1.x must not take an error for a passed run."""
    client = site(PASSES)
    response = client.get(f"/smoketest/{path}", headers={"Accept": "application/json"})
    assert response.status_code == status
    values = response.json()
    assert values["status"] == "FAIL"
    assert (values["tests_run"], values["tests_passed"], values["tests_errored"]) == (1, 0, 1)
    assert values["errored_tests"] == [values["error"]]
    report = client.get("/smoketest/?format=json").json()
    assert set(values) - {"error"} <= set(report)


def test_index__format_by_parameter(site: Site) -> None:
    """?format= takes precedence over Accept."""
    client = site(PASSES)
    assert client.get("/smoketest/?format=json").json()["status"] == "PASS"
    response = client.get("/smoketest/?format=text", headers={"accept": "application/json"})
    assert response.text.startswith("PASS\n")


def test_index__selection(site: Site) -> None:
    """?test=, ?tag= and ?exclude_tag= select tests."""
    client = site(PASSES)

    def ids(query: str) -> list[str]:
        response = client.get(f"/smoketest/?format=json&max_age=0&{query}")
        return [result["id"].rpartition(".")[2] for result in response.json()["results"]]

    assert ids("test=app0.smoke.T.test_read") == ["test_read"]
    assert ids("test=app0.smoke.T.test_read&test=app0.smoke.T.test_write") == [
        "test_read",
        "test_write",
    ]
    assert ids("test=app0") == ["test_read", "test_write"]
    assert ids("tag=readiness") == ["test_read"]
    assert ids("tag=db&exclude_tag=readiness") == ["test_write"]


def test_index__failfast(site: Site) -> None:
    """?failfast=1 stops the run after a failure."""
    counts = site(FAILS).get("/smoketest/?failfast=1&format=json").json()
    assert (counts["tests_failed"], counts["tests_not_run"]) == (1, 2)
    assert counts["cut_short_by"] == "failfast"


def test_index__no_match(site: Site) -> None:
    """A selection without matches has status 404."""
    response = site(PASSES).get("/smoketest/?tag=unknown")
    assert response.status_code == 404
    assert "No smoke test matches tag unknown" in response.text
    assert "module.Class.method" in response.text


def test_index__no_tests(site: Site) -> None:
    """A site without smoke tests has status 404 and explains how to add one."""
    response = site(None).get("/smoketest/", headers={"accept": "application/json"})
    assert response.status_code == 404
    assert "smoke.py" in response.json()["error"]


def test_index__unknown_parameter(site: Site) -> None:
    """An unknown parameter has status 400 and lists the known parameters."""
    response = site(PASSES).get("/smoketest/?tags=db&format=json")
    assert response.status_code == 400
    assert "test, tag, exclude_tag, failfast, format, max_age, only_if_cached" in response.text
    assert "Did you mean tag?" in response.text


def test_index__stored_result(site: Site) -> None:
    """A stored result has its age in seconds, rounded up; Cache-Control follows RFC 9111."""
    client = site(PASSES, SMOKETEST_MAX_AGE=600)
    assert client.get("/smoketest/").headers["Age"] == "0"
    time.sleep(0.05)
    stored = client.get("/smoketest/?format=json")
    assert stored.json()["age"] >= 0.05
    assert -0.001 <= int(stored.headers["Age"]) - stored.json()["age"] < 1.001
    for fresh in (
        client.get("/smoketest/", headers={"cache-control": "no-cache"}),
        client.get("/smoketest/", headers={"cache-control": "max-age=0"}),
        client.get("/smoketest/?max_age=0"),
    ):
        assert fresh.headers["Age"] == "0"
    assert int(client.get("/smoketest/?only_if_cached=1").headers["Age"]) >= 1


def test_index__no_stored_result(site: Site) -> None:
    """only-if-cached without a stored result has status 504."""
    client = site(PASSES)
    response = client.get("/smoketest/", headers={"cache-control": "only-if-cached"})
    assert response.status_code == 504
    assert "only-if-cached" in response.text


def test_index__too_many_waiting_requests(site: Site) -> None:
    """A request that may not wait has status 503 and Retry-After."""
    client = site(PASSES)
    folder = services.state_folder()
    locks = [HostLock(folder, name).acquire() for name in ("run", "waiting-0", "waiting-1")]
    response = client.get("/smoketest/")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "2"
    assert response.text.endswith("Try again in 2 s.\n")
    for release in locks:
        assert release
        release()


def test_index__unusable_state_directory(site: Site, tmp_path: Path) -> None:
    """A state directory that becomes unusable is reported by the metrics; tests still run."""
    client = site(PASSES)
    client.get("/smoketest/")
    for file in (tmp_path / "state").iterdir():
        file.unlink()
    (tmp_path / "state").rmdir()
    (tmp_path / "state").touch()
    response = client.get("/smoketest/")
    assert response.status_code == 200
    assert "smoketest_results_store_up 0.0" in client.get("/smoketest/metrics").text


def test_index__tracebacks_require_debug(site: Site) -> None:
    """Clients without full access get messages but no tracebacks."""
    client = site(FAILS)
    assert "traceback" not in client.get("/smoketest/?format=json").json()["results"][0]
    with override_settings(DEBUG=True):
        results = client.get("/smoketest/?format=json").json()["results"]
    assert "self.assertEqual(1, 2)" in results[0]["traceback"]


def test_index__methods(site: Site) -> None:
    """HEAD is allowed; PUT and POST are not."""
    client = site(PASSES)
    assert client.head("/smoketest/").status_code == 200
    assert client.put("/smoketest/").status_code == 405
    assert Client(enforce_csrf_checks=True).post("/smoketest/").status_code == 403


def test_index__non_atomic_requests() -> None:
    """With ATOMIC_REQUESTS, the view does not run in a transaction."""
    view = IndexView.as_view()
    assert view._non_atomic_requests == {"default", "other"}  # type: ignore[attr-defined]


class SubclassedView(IndexView):
    """A subclass as written by users of 1.x."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().get(request, *args, **kwargs)
        response["X-Site"] = "shop"
        response.set_cookie("seen", "1")
        return response


urlpatterns = [
    path("smoketest/", include("smoketest.urls")),
    path("own/", SubclassedView.as_view()),
]


def test_index__subclass(site: Site) -> None:
    """A subclass can add headers and cookies to the response."""
    response = site(PASSES, ROOT_URLCONF=__name__).get("/own/")
    assert (response.status_code, response.headers["X-Site"]) == (200, "shop")


async def get_async(path: str, **headers: str) -> Any:
    return await AsyncClient(raise_request_exception=False).get(path, headers=headers)


def test_index__asgi(site: Site) -> None:
    site(PASSES)
    response = asyncio.run(get_async("/smoketest/", accept="application/json"))
    assert response.status_code == 200
    assert json.loads(response.content)["tests_passed"] == 2


def test_index__asgi_subclass(site: Site) -> None:
    """Under ASGI, a subclass can add headers and cookies to the response."""
    site(PASSES, ROOT_URLCONF=__name__)
    response = asyncio.run(get_async("/own/"))
    assert response.text.startswith("PASS")
    assert response.headers["X-Site"] == "shop"
    assert response.cookies["seen"].value == "1"


def test_metrics__before_any_run(site: Site) -> None:
    """Before the first run, the status is 200 and the store is up."""
    response = site(PASSES, SMOKETEST_RUN_ON_SCRAPE=False).get("/smoketest/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name for family in text_string_to_metric_families(response.text)}
    assert "smoketest_last_run_success" not in families
    assert "smoketest_results_store_up 1.0" in response.text


def test_metrics__after_failing_run(site: Site) -> None:
    """After a failing run, the status is 200, and the scrape starts no run."""
    client = site(FAILS, SMOKETEST_PUBLIC_URL="https://shop.example/", SMOKETEST_RELEASE="7")
    client.get("/smoketest/")
    for _ in range(2):
        response = client.get("/smoketest/metrics")
        assert response.status_code == 200
        lines = response.text.splitlines()
        assert "smoketest_last_run_success 0.0" in lines
        assert 'smoketest_runs_total{result="failed"} 1.0' in lines
    (info,) = (line for line in lines if line.startswith("smoketest_test_info") and "good" in line)
    assert 'url="https://shop.example/smoketest/test/app0.smoke.T.test_good/"' in info
    assert 'release="7"' in response.text


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        ("application/openmetrics-text; version=1.0.0", "1.0.0"),
        ("application/openmetrics-text", "1.0.0"),
        (
            "text/plain;version=0.0.4;q=0.3,application/openmetrics-text;version=1.0.0;q=0.5",
            "1.0.0",
        ),
        (
            "text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.3",
            "0.0.4",
        ),
        ("application/openmetrics-text;version=0.0.1", "0.0.4"),
        ("*/*", "0.0.4"),
        (";;", "0.0.4"),
        ("x" * 20_000, "0.0.4"),
    ],
)
def test_metrics__format_by_accept(site: Site, accept: str, version: str) -> None:
    """Accept selects OpenMetrics 1.0.0 or text 0.0.4."""
    response = site(PASSES).get("/smoketest/metrics", headers={"accept": accept})
    assert f"version={version}" in response.headers["Content-Type"]
    if version == "1.0.0":
        assert list(openmetrics_parser.text_string_to_metric_families(response.text))
    else:
        assert "# EOF" not in response.text


def test_metrics__unreadable_store(site: Site, tmp_path: Path) -> None:
    """A store that cannot be read is exposed as a sample."""
    client = site(PASSES)
    client.get("/smoketest/")
    database = tmp_path / "state" / "results.sqlite3"
    database.unlink()
    database.mkdir()
    response = client.get("/smoketest/metrics")
    assert response.status_code == 200
    assert "smoketest_results_store_up 0.0" in response.text


# Runs that scrapes start

HANGS = """
from tests.hanging import hang

class T(SmokeTest):
    timeout = 100
    def test_slow(self):
        hang()
"""
#: Settings that let a run hang until it is released.
LONG_TIMEOUTS = {"SMOKETEST_RUN_TIMEOUT": 240, "SMOKETEST_INTERVAL": 3600, "SMOKETEST_MAX_AGE": 600}


def wait_for_background_runs() -> None:
    """Wait for the run in the background to end, if there is one."""
    for thread in threading.enumerate():
        if thread.name == "smoketest-background":
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture(autouse=True)
def no_run_after_the_test(site: Site) -> Iterator[None]:  # noqa: ARG001 - torn down before the site
    """Wait for runs that scrapes have started before the site is removed."""
    reset()
    yield
    released.set()
    wait_for_background_runs()


def test_metrics__starts_due_run(site: Site) -> None:
    """A scrape starts a due run without waiting for it; later scrapes start none."""
    client = site(HANGS, **LONG_TIMEOUTS)
    for _ in range(3):
        response = client.get("/smoketest/metrics")
        assert response.status_code == 200
        assert 'smoketest_runs_total{result="passed"} 0.0' in response.text
    assert begun.wait(60)
    assert_hanging()
    released.set()
    wait_for_background_runs()
    text = client.get("/smoketest/metrics").text
    wait_for_background_runs()
    assert 'smoketest_runs_total{result="passed"} 1.0' in text
    assert 'smoketest_runs_total{result="passed"} 1.0' in client.get("/smoketest/metrics").text
    assert "smoketest_last_run_success 1.0" in text


def test_index__waits_for_background_run(site: Site) -> None:
    """A request during a background run waits for its report."""
    client = site(HANGS, **LONG_TIMEOUTS)
    client.get("/smoketest/metrics")
    assert begun.wait(60)
    assert_hanging()
    threading.Timer(0.3, released.set).start()
    response = client.get("/smoketest/?format=json")
    assert response.status_code == 200
    assert response.json()["tests_passed"] == 1
    wait_for_background_runs()
    assert 'smoketest_runs_total{result="passed"} 1.0' in client.get("/smoketest/metrics").text


@pytest.mark.parametrize(
    "smoke", [FAILS, "raise ValueError", "", None], ids=["fails", "import", "empty", "none"]
)
def test_metrics__status_is_200(site: Site, smoke: str | None) -> None:
    """The status is always 200, because Prometheus ignores the body of other responses."""
    client = site(smoke)
    for _ in range(2):
        response = client.get("/smoketest/metrics")
        wait_for_background_runs()
        assert response.status_code == 200
        assert "smoketest_results_store_up 1.0" in response.text
        assert response.headers["Cache-Control"] == "no-store, private"


def test_metrics__unreadable_abandoned_tests(site: Site, tmp_path: Path) -> None:
    """The status is 200 if abandoned tests cannot be counted."""
    client = site(PASSES, SMOKETEST_RUN_ON_SCRAPE=False)
    client.get("/smoketest/")
    (tmp_path / "state" / "abandoned-00.json").touch()
    (tmp_path / "state" / "abandoned-00.lock").mkdir()
    response = client.get("/smoketest/metrics")
    assert response.status_code == 200
    assert "smoketest_last_run_success 1.0" in response.text


def get_with_script_name(path: str) -> str:
    """Return the response body of a site that is mounted at /shop."""
    environ: dict[str, Any] = {"SCRIPT_NAME": "/shop", "PATH_INFO": path, "HTTP_HOST": "testserver"}
    setup_testing_defaults(environ)
    response = WSGIHandler()(environ, lambda *_: lambda _: None)
    try:
        return b"".join(response).decode()
    finally:
        response.close()
        clear_script_prefix()


def test_metrics__url_with_script_name(site: Site) -> None:
    """The URL of a test is the same after a run of a request and of a scrape."""
    site(PASSES, SMOKETEST_PUBLIC_URL="https://shop.example", SMOKETEST_INTERVAL=0.001)

    def urls() -> set[str]:
        """Return the URLs of the tests without starting a run."""
        with override_settings(SMOKETEST_RUN_ON_SCRAPE=False):
            text = get_with_script_name("/smoketest/metrics")
        return set(re.findall(r'smoketest_test_info{.*,url="(.*?)test/', text))

    assert get_with_script_name("/smoketest/").startswith("PASS")
    by_request = urls()
    get_with_script_name("/smoketest/metrics")
    wait_for_background_runs()
    by_scrape = urls()
    assert len(by_request) == 1
    assert by_scrape == by_request


# Compression


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
@pytest.mark.parametrize(
    ("accept_encoding", "is_compressed"),
    [
        ("gzip", True),
        ("GZip", True),
        ("br;q=1.0, gzip;q=0.5", True),
        ("gzip ; q=0.001", True),
        ("deflate,gzip", True),
        ("*", True),
        ("*;q=0, gzip", True),
        (None, False),
        ("", False),
        ("br, zstd", False),
        ("gzipped", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("gzip;q=0.", False),
        ("gzip;q=0.000", False),
        ("gzip;Q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        (";;,=", False),
    ],
)
def test_metrics__gzip(
    site: Site, accept: str, accept_encoding: str | None, is_compressed: bool
) -> None:
    """The page is compressed if Accept-Encoding allows gzip, and Vary lists the header."""
    client = site(PASSES, SMOKETEST_RUN_ON_SCRAPE=False)
    client.get("/smoketest/")
    plain = client.get("/smoketest/metrics", headers={"accept": accept})
    headers = {"accept": accept}
    if accept_encoding is not None:
        headers["accept-encoding"] = accept_encoding
    response = client.get("/smoketest/metrics", headers=headers)
    assert response.headers.get("Content-Encoding") == ("gzip" if is_compressed else None)
    content = gzip.decompress(response.content) if is_compressed else response.content
    assert content == plain.content
    for either in (plain, response):
        assert either.headers["Vary"] == "Accept, Accept-Encoding"
    assert response.headers["Content-Type"] == plain.headers["Content-Type"]


def test_metrics__gzip_without_a_store(site: Site, tmp_path: Path) -> None:
    client = site(PASSES)
    client.get("/smoketest/")
    (tmp_path / "state" / "results.sqlite3").unlink()
    (tmp_path / "state" / "results.sqlite3").mkdir()
    response = client.get("/smoketest/metrics", headers={"accept-encoding": "gzip"})
    assert response.status_code == 200
    assert b"smoketest_results_store_up 0.0" in gzip.decompress(response.content)


# Pauses


def pause(seconds: float = 600) -> float:
    """Pause runs and return the Unix time at which the pause ends."""
    until = time.time() + seconds
    services.state().store.pause(Pause(until=until, reason="moving the database"))
    return until


def pause_line(until: float) -> str:
    """Return the line of a report that describes the pause."""
    return f"paused until {utc(until)}: moving the database"


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", {}),
        ("max_age=0", {}),
        ("", {"cache-control": "no-cache"}),
        ("", {"cache-control": "max-age=0"}),
        ("only_if_cached=1", {}),
    ],
)
def test_index__paused(site: Site, query: str, headers: dict[str, str]) -> None:
    """During a pause, all requests get the latest stored result with the pause."""
    client = site(FAILS)
    started_at = client.get("/smoketest/?format=json").json()["started_at"]
    assert "paused" not in client.get("/smoketest/").text
    until = pause()
    text = client.get(f"/smoketest/?{query}", headers=headers)
    assert text.status_code == 500
    assert pause_line(until) in text.text.splitlines()
    assert text.text.startswith("FAIL\n")
    assert int(text.headers["Age"]) >= 1
    answer = client.get(f"/smoketest/?format=json&{query}", headers=headers)
    assert answer.status_code == 500
    assert answer.json()["started_at"] == started_at
    assert answer.json()["paused"]["reason"] == "moving the database"
    paused_until = datetime.fromisoformat(answer.json()["paused"]["until"]).timestamp()
    assert paused_until == pytest.approx(until, abs=1)
    services.state().store.resume()
    resumed = client.get("/smoketest/?format=json&max_age=0").json()
    assert resumed["paused"] is None
    assert resumed["started_at"] > started_at


def test_index__paused_with_selection(site: Site) -> None:
    """During a pause, the stored result is reduced to the selection."""
    client = site(FAILS)
    client.get("/smoketest/")
    until = pause()
    response = client.get("/smoketest/?test=app0.smoke.T.test_good")
    assert response.status_code == 200
    assert response.text.startswith("PASS\ntest classes: 1\ntests run: 1\n")
    assert pause_line(until) in response.text


@pytest.mark.parametrize("format_name", ["text", "json"])
def test_index__paused_without_stored_result(site: Site, format_name: str) -> None:
    """The status is 503, with the end, the reason and how to resume."""
    client = site(PASSES)
    until = pause()
    response = client.get(
        f"/smoketest/?format={format_name}", headers={"cache-control": "no-cache"}
    )
    assert response.status_code == 503
    assert until - time.time() <= int(response.headers["Retry-After"]) <= 600
    for part in (utc(until), "moving the database", "--resume"):
        assert part in response.text
    assert client.get("/smoketest/metrics").status_code == 200


def test_metrics__paused(site: Site) -> None:
    """During a pause, a scrape starts no run; after the pause, it does."""
    client = site(PASSES)
    pause()
    text = client.get("/smoketest/metrics").text
    wait_for_background_runs()
    assert "smoketest_paused 1.0" in text
    assert 'smoketest_runs_total{result="passed"} 0.0' in client.get("/smoketest/metrics").text
    pause(0.2)
    wait_for(
        lambda: client.get("/smoketest/metrics").text,
        lambda text: "smoketest_paused 0.0" in text,
        what="the end of the pause",
    )
    wait_for_background_runs()
    assert 'smoketest_runs_total{result="passed"} 1.0' in client.get("/smoketest/metrics").text


# Other middleware of the site


def other_page(_: HttpRequest) -> HttpResponse:
    """Return a page long enough for compression, with different content each time."""
    return HttpResponse(f"{time.time_ns()}" * 100)


urlpatterns.append(path("other/", other_page))


def test_endpoints__login_required_middleware(site: Site) -> None:
    """LoginRequiredMiddleware does not redirect the endpoints to the login page."""
    client = site(PASSES)
    with override_settings(
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=[
            *settings.INSTALLED_APPS,
            "django.contrib.auth",
            "django.contrib.contenttypes",
        ],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        LOGIN_URL="/login/",
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.auth.middleware.LoginRequiredMiddleware",
        ],
    ):
        assert client.get("/other/").headers["Location"] == "/login/?next=/other/"
        assert client.get("/smoketest/metrics").status_code == 200
        assert client.get("/smoketest/").status_code == 200
        wait_for_background_runs()


def test_endpoints__cache_middleware(site: Site) -> None:
    """Django's cache middleware does not cache the endpoints."""
    client = site(
        PASSES,
        ROOT_URLCONF=__name__,
        SMOKETEST_RUN_ON_SCRAPE=False,
        CACHE_MIDDLEWARE_SECONDS=600,
        CACHES={
            "default": {
                "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
                "LOCATION": "test_endpoints__cache_middleware",
            }
        },
        MIDDLEWARE=[
            "django.middleware.cache.UpdateCacheMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.cache.FetchFromCacheMiddleware",
        ],
    )
    assert client.get("/other/").content == client.get("/other/").content
    started = {
        client.get("/smoketest/?max_age=0&format=json").json()["started_at"] for _ in range(3)
    }
    assert len(started) == 3
    for number in (4, 5):
        client.get("/smoketest/?max_age=0")
        line = f'smoketest_runs_total{{result="passed"}} {number}.0'
        assert line in client.get("/smoketest/metrics").text
        zipped = client.get("/smoketest/metrics", headers={"accept-encoding": "gzip"})
        assert line in gzip.decompress(zipped.content).decode()


def test_metrics__gzip_middleware(site: Site) -> None:
    """GZipMiddleware does not compress the metrics again."""
    client = site(
        PASSES,
        ROOT_URLCONF=__name__,
        SMOKETEST_RUN_ON_SCRAPE=False,
        MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"],
    )
    client.get("/smoketest/")
    zipped = {"accept-encoding": "gzip"}
    assert client.get("/other/", headers=zipped).headers["Content-Encoding"] == "gzip"
    plain = client.get("/smoketest/metrics")
    response = client.get("/smoketest/metrics", headers=zipped)
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(response.content) == plain.content
    assert "Content-Encoding" not in plain.headers
    for either in (plain, response):
        assert either.headers["Vary"] == "Accept, Accept-Encoding"
    index = client.get("/smoketest/?format=json", headers=zipped)
    assert index.status_code == 200
    assert json.loads(gzip.decompress(index.content))["status"] == "PASS"
