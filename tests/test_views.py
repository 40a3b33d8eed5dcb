"""The endpoints, as a client sees them."""

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
from django.test import AsyncClient, Client, override_settings
from django.urls import clear_script_prefix, include, path, reverse
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from smoketest import services
from smoketest.results import utc
from smoketest.store import Pause
from smoketest.store.locks import HostLock
from smoketest.views import IndexView
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
    """The names of 1.x, and one for the metrics."""
    assert reverse("smoketest:smoketest") == "/smoketest/"
    assert reverse("smoketest:metrics") == "/smoketest/metrics"


def test_index__passes(site: Site) -> None:
    """200 and the text of 1.x, which no cache may keep."""
    response = site(PASSES).get("/smoketest/")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store, private"
    assert response.headers["Vary"] == "Accept"
    assert response.headers["Age"] == "0"
    assert response.text.startswith("PASS\ntest classes: 1\ntests run: 2\ntests passed: 2\n")


def test_index__fails(site: Site) -> None:
    """500 and the problems."""
    response = site(FAILS).get("/smoketest/")
    assert response.status_code == 500
    assert response.text.startswith("FAIL\n")
    assert response.text.endswith(
        "\n\napp0.smoke.T.test_bad failed: 1 != 2\n\napp0.smoke.T.test_worse errored: no such thing"
    )


def test_index__failing_warning_passes(site: Site) -> None:
    """A failing test of severity warning is told of, and the site still passes."""
    client = site(FAILS.replace("(SmokeTest):", "(SmokeTest):\n    severity = 'warning'"))
    response = client.get("/smoketest/", headers={"accept": "application/json"})
    assert response.status_code == 200
    assert response.json()["status"] == "PASS"
    assert response.json()["tests_failed"] == 1
    assert len(response.json()["warnings"]) == 2


def test_index__fail_is_no_error_of_the_site(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The logger of the package tells of a FAIL; Django, which may mail the admins, does not."""
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
    """Accept chooses the format; what cannot be understood gets text."""
    headers = {} if accept is None else {"accept": accept}
    response = site(PASSES).get("/smoketest/", headers=headers)
    assert response.headers["Content-Type"] == f"{media_type}; charset=utf-8"


def test_index__format_by_parameter(site: Site) -> None:
    """?format= overrides Accept."""
    client = site(PASSES)
    assert client.get("/smoketest/?format=json").json()["status"] == "PASS"
    response = client.get("/smoketest/?format=text", headers={"accept": "application/json"})
    assert response.text.startswith("PASS\n")


def test_index__selection(site: Site) -> None:
    """?test=, ?tag= and ?exclude_tag= choose what is run."""
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
    """?failfast=1 runs no further test after a failure."""
    counts = site(FAILS).get("/smoketest/?failfast=1&format=json").json()
    assert (counts["tests_failed"], counts["tests_not_run"]) == (1, 2)
    assert counts["cut_short_by"] == "failfast"


def test_index__nothing_matches(site: Site) -> None:
    """A selection that matches nothing is 404 and says what to do."""
    response = site(PASSES).get("/smoketest/?tag=nobody")
    assert response.status_code == 404
    assert "No smoke test matches tag nobody" in response.text
    assert "module.Class.method" in response.text


def test_index__no_tests(site: Site) -> None:
    """A site without smoke tests is 404, never PASS, and says how to write one."""
    response = site(None).get("/smoketest/", headers={"accept": "application/json"})
    assert response.status_code == 404
    assert "smoke.py" in response.json()["error"]


def test_index__unknown_parameter(site: Site) -> None:
    """400 names the parameters that there are."""
    response = site(PASSES).get("/smoketest/?tags=db&format=json")
    assert response.status_code == 400
    assert "test, tag, exclude_tag, failfast, format, max_age, only_if_cached" in response.text
    assert "Did you mean tag?" in response.text


def test_index__stored_result(site: Site) -> None:
    """A stored result says its age, rounded up, and overrides are those of RFC 9111."""
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


def test_index__nothing_stored(site: Site) -> None:
    """Only-if-cached runs nothing: 504 when there is nothing stored."""
    client = site(PASSES)
    response = client.get("/smoketest/", headers={"cache-control": "only-if-cached"})
    assert response.status_code == 504
    assert "only-if-cached" in response.text


def test_index__too_many_wait(site: Site) -> None:
    """503 with Retry-After for those who may not wait."""
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


def test_index__state_folder_is_lost(site: Site, tmp_path: Path) -> None:
    """A state folder that becomes unusable is told of, with what to do."""
    client = site(PASSES)
    client.get("/smoketest/")
    for file in (tmp_path / "state").iterdir():
        file.unlink()
    (tmp_path / "state").rmdir()
    (tmp_path / "state").touch()
    response = client.get("/smoketest/")
    assert response.status_code == 200
    assert "smoketest_results_store_up 0.0" in client.get("/smoketest/metrics").text


def test_index__tracebacks_with_debug_alone(site: Site) -> None:
    """Outsiders see messages, no tracebacks."""
    client = site(FAILS)
    assert "traceback" not in client.get("/smoketest/?format=json").json()["results"][0]
    with override_settings(DEBUG=True):
        results = client.get("/smoketest/?format=json").json()["results"]
    assert "self.assertEqual(1, 2)" in results[0]["traceback"]


def test_index__methods(site: Site) -> None:
    """HEAD answers like GET; what would change something is refused."""
    client = site(PASSES)
    assert client.head("/smoketest/").status_code == 200
    assert client.put("/smoketest/").status_code == 405
    assert Client(enforce_csrf_checks=True).post("/smoketest/").status_code == 403


def test_index__no_transaction_of_the_request() -> None:
    """With ATOMIC_REQUESTS no transaction of the site is open while the tests run."""
    view = IndexView.as_view()
    assert view._non_atomic_requests == {"default", "other"}  # type: ignore[attr-defined]


class SubclassedView(IndexView):
    """What a user of 1.x may have done."""

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
    """The view can be extended."""
    response = site(PASSES, ROOT_URLCONF=__name__).get("/own/")
    assert (response.status_code, response.headers["X-Site"]) == (200, "shop")


async def get_async(path: str, **headers: str) -> Any:
    return await AsyncClient(raise_request_exception=False).get(path, headers=headers)


def test_index__asgi(site: Site) -> None:
    """Under ASGI the answer is the same."""
    site(PASSES)
    response = asyncio.run(get_async("/smoketest/", accept="application/json"))
    assert response.status_code == 200
    assert json.loads(response.content)["tests_passed"] == 2


def test_index__asgi_subclass(site: Site) -> None:
    """Under ASGI, too, a subclass may set headers and cookies on the response."""
    site(PASSES, ROOT_URLCONF=__name__)
    response = asyncio.run(get_async("/own/"))
    assert response.text.startswith("PASS")
    assert response.headers["X-Site"] == "shop"
    assert response.cookies["seen"].value == "1"


def test_metrics__before_any_run(site: Site) -> None:
    """200 and what is known: nothing has run, and the store works."""
    response = site(PASSES, SMOKETEST_RUN_ON_SCRAPE=False).get("/smoketest/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name for family in text_string_to_metric_families(response.text)}
    assert "smoketest_last_run_success" not in families
    assert "smoketest_results_store_up 1.0" in response.text


def test_metrics__after_a_failing_run(site: Site) -> None:
    """200 whatever the tests say, and the scrape runs nothing."""
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
    """OpenMetrics 1.0 or text 0.0.4, whichever the scraper prefers."""
    response = site(PASSES).get("/smoketest/metrics", headers={"accept": accept})
    assert f"version={version}" in response.headers["Content-Type"]
    if version == "1.0.0":
        assert list(openmetrics_parser.text_string_to_metric_families(response.text))
    else:
        assert "# EOF" not in response.text


def test_metrics__store_cannot_be_read(site: Site, tmp_path: Path) -> None:
    """A store that cannot be read is a sample, not an error."""
    client = site(PASSES)
    client.get("/smoketest/")
    database = tmp_path / "state" / "results.sqlite3"
    database.unlink()
    database.mkdir()
    response = client.get("/smoketest/metrics")
    assert response.status_code == 200
    assert "smoketest_results_store_up 0.0" in response.text


# Runs that scrapes start.

HANGS = """
from tests.hanging import hang

class T(SmokeTest):
    timeout = 100
    def test_slow(self):
        hang()
"""
#: Settings of a site whose test hangs for a while before it passes.
PATIENT = {"SMOKETEST_RUN_TIMEOUT": 240, "SMOKETEST_INTERVAL": 3600, "SMOKETEST_MAX_AGE": 600}


def settle() -> None:
    """Wait for the run in the background to end, if there is one."""
    for thread in threading.enumerate():
        if thread.name == "smoketest-background":
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture(autouse=True)
def no_run_outlives_its_site(site: Site) -> Iterator[None]:  # noqa: ARG001 - ends before it
    """What a scrape has started ends before the site does."""
    reset()
    yield
    released.set()
    settle()


def test_metrics__scrape_starts_a_run(site: Site) -> None:
    """A scrape starts the run that is due, without waiting for it; the next ones start none."""
    client = site(HANGS, **PATIENT)
    for _ in range(3):
        response = client.get("/smoketest/metrics")
        assert response.status_code == 200
        assert 'smoketest_runs_total{result="passed"} 0.0' in response.text
    assert begun.wait(60)
    assert_hanging()
    released.set()
    settle()
    text = client.get("/smoketest/metrics").text
    settle()
    assert 'smoketest_runs_total{result="passed"} 1.0' in text
    assert 'smoketest_runs_total{result="passed"} 1.0' in client.get("/smoketest/metrics").text
    assert "smoketest_last_run_success 1.0" in text


def test_index__waits_for_the_run_of_a_scrape(site: Site) -> None:
    """Who asks while such a run goes on gets its report, not another run."""
    client = site(HANGS, **PATIENT)
    client.get("/smoketest/metrics")
    assert begun.wait(60)
    assert_hanging()
    threading.Timer(0.3, released.set).start()
    response = client.get("/smoketest/?format=json")
    assert response.status_code == 200
    assert response.json()["tests_passed"] == 1
    settle()
    assert 'smoketest_runs_total{result="passed"} 1.0' in client.get("/smoketest/metrics").text


@pytest.mark.parametrize(
    "smoke", [FAILS, "raise ValueError", "", None], ids=["fails", "import", "empty", "none"]
)
def test_metrics__ok_whatever_the_tests_do(site: Site, smoke: str | None) -> None:
    """Prometheus drops the body of any answer but 200: the metrics are always 200."""
    client = site(smoke)
    for _ in range(2):
        response = client.get("/smoketest/metrics")
        settle()
        assert response.status_code == 200
        assert "smoketest_results_store_up 1.0" in response.text
        assert response.headers["Cache-Control"] == "no-store, private"


def test_metrics__abandoned_tests_cannot_be_counted(site: Site, tmp_path: Path) -> None:
    """200 also where one file among the state is not what it should be."""
    client = site(PASSES, SMOKETEST_RUN_ON_SCRAPE=False)
    client.get("/smoketest/")
    (tmp_path / "state" / "abandoned-00.json").touch()
    (tmp_path / "state" / "abandoned-00.lock").mkdir()
    response = client.get("/smoketest/metrics")
    assert response.status_code == 200
    assert "smoketest_last_run_success 1.0" in response.text


def get_below_a_prefix(path: str) -> str:
    """What a server answers that has mounted the site at /shop."""
    environ: dict[str, Any] = {"SCRIPT_NAME": "/shop", "PATH_INFO": path, "HTTP_HOST": "testserver"}
    setup_testing_defaults(environ)
    response = WSGIHandler()(environ, lambda *_: lambda _: None)
    try:
        return b"".join(response).decode()
    finally:
        response.close()
        clear_script_prefix()


def test_metrics__address_below_a_prefix(site: Site) -> None:
    """The address of a test is the same whether a request or a scrape made it run."""
    site(PASSES, SMOKETEST_PUBLIC_URL="https://shop.example", SMOKETEST_INTERVAL=0.001)

    def addresses() -> set[str]:
        """What is known, without a run."""
        with override_settings(SMOKETEST_RUN_ON_SCRAPE=False):
            text = get_below_a_prefix("/smoketest/metrics")
        return set(re.findall(r'smoketest_test_info{.*,url="(.*?)test/', text))

    assert get_below_a_prefix("/smoketest/").startswith("PASS")
    by_request = addresses()
    get_below_a_prefix("/smoketest/metrics")
    settle()
    by_scrape = addresses()
    assert len(by_request) == 1
    assert by_scrape == by_request


# Compression.


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
def test_metrics__compressed_by_accept_encoding(
    site: Site, accept: str, accept_encoding: str | None, is_compressed: bool
) -> None:
    """gzip for those who accept it, the same page; caches are told what it depends on."""
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


def test_metrics__compressed_without_a_store(site: Site, tmp_path: Path) -> None:
    """What there is without a store is compressed as well."""
    client = site(PASSES)
    client.get("/smoketest/")
    (tmp_path / "state" / "results.sqlite3").unlink()
    (tmp_path / "state" / "results.sqlite3").mkdir()
    response = client.get("/smoketest/metrics", headers={"accept-encoding": "gzip"})
    assert response.status_code == 200
    assert b"smoketest_results_store_up 0.0" in gzip.decompress(response.content)


# The pause.


def pause(seconds: float = 600) -> float:
    """Pause the runs and return the Unix time at which the pause ends."""
    until = time.time() + seconds
    services.state().store.pause(Pause(until=until, reason="moving the database"))
    return until


def pause_line(until: float) -> str:
    """Return the line of a report during the pause."""
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
    """While the runs are paused everybody gets the latest stored result, which says so."""
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
    told = datetime.fromisoformat(answer.json()["paused"]["until"]).timestamp()
    assert told == pytest.approx(until, abs=1)
    services.state().store.resume()
    resumed = client.get("/smoketest/?format=json&max_age=0").json()
    assert resumed["paused"] is None
    assert resumed["started_at"] > started_at


def test_index__paused_with_a_filter(site: Site) -> None:
    """The stored result is narrowed to what was asked for, as ever."""
    client = site(FAILS)
    client.get("/smoketest/")
    until = pause()
    response = client.get("/smoketest/?test=app0.smoke.T.test_good")
    assert response.status_code == 200
    assert response.text.startswith("PASS\ntest classes: 1\ntests run: 1\n")
    assert pause_line(until) in response.text


@pytest.mark.parametrize("format_name", ["text", "json"])
def test_index__paused_and_nothing_stored(site: Site, format_name: str) -> None:
    """503 says until when, why, and how to end it."""
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
    """A scrape during a pause starts nothing and tells of the pause; a pause ends by itself."""
    client = site(PASSES)
    pause()
    text = client.get("/smoketest/metrics").text
    settle()
    assert "smoketest_paused 1.0" in text
    assert 'smoketest_runs_total{result="passed"} 0.0' in client.get("/smoketest/metrics").text
    pause(0.2)
    wait_for(
        lambda: client.get("/smoketest/metrics").text,
        lambda text: "smoketest_paused 0.0" in text,
        what="the end of the pause",
    )
    settle()
    assert 'smoketest_runs_total{result="passed"} 1.0' in client.get("/smoketest/metrics").text


# Under the middleware of a site.


def other_page(_: HttpRequest) -> HttpResponse:
    """Any page of the site: long enough to be compressed, and never twice the same."""
    return HttpResponse(f"{time.time_ns()}" * 100)


urlpatterns.append(path("other/", other_page))


def test_endpoints__log_in_is_required(site: Site) -> None:
    """A site that lets nobody in without a log-in does not redirect those who monitor it."""
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
        settle()


def test_endpoints__site_is_cached(site: Site) -> None:
    """Django's cache of a whole site, whatever its age, never answers for the endpoints."""
    client = site(
        PASSES,
        ROOT_URLCONF=__name__,
        SMOKETEST_RUN_ON_SCRAPE=False,
        CACHE_MIDDLEWARE_SECONDS=600,
        CACHES={
            "default": {
                "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
                "LOCATION": "test_endpoints__site_is_cached",
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


def test_metrics__site_is_compressed(site: Site) -> None:
    """Django's compression of a whole site leaves what is compressed already alone."""
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
