"""The endpoints, as a client sees them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import include, path, reverse
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from smoketest import assembly
from smoketest.locks import HostLock
from smoketest.views import IndexView
from tests.conftest import Apps

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

Site = Callable[..., Client]


@pytest.fixture
def site(apps: Apps, tmp_path: Path) -> Iterator[Site]:
    """A client of a site with this smoke module, and its own results store."""
    overrides = []

    def make(smoke: str | None, **settings: Any) -> Client:
        apps.add(smoke)
        override = override_settings(
            INSTALLED_APPS=["smoketest", "tests.ledger", *apps.names],
            SMOKETEST_STATE_DIR=str(tmp_path / "state"),
            **settings,
        )
        override.enable()
        overrides.append(override)
        return Client(raise_request_exception=False)

    yield make
    for override in reversed(overrides):
        override.disable()


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
    assert response.headers["Cache-Control"] == "no-store"
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
    assert {record.name for record in caplog.records} == {"smoketest"}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "text/plain"),
        ("*/*", "text/plain"),
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/plain, application/json;q=0.5", "text/plain"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain"),
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
    client = site(PASSES)
    assert client.get("/smoketest/").headers["Age"] == "0"
    time.sleep(0.05)
    stored = client.get("/smoketest/?format=json")
    assert stored.headers["Age"] == "1"
    assert 0.05 <= stored.json()["age"] < 1
    for fresh in (
        client.get("/smoketest/", headers={"cache-control": "no-cache"}),
        client.get("/smoketest/", headers={"cache-control": "max-age=0"}),
        client.get("/smoketest/?max_age=0"),
    ):
        assert fresh.headers["Age"] == "0"
    assert client.get("/smoketest/?only_if_cached=1").headers["Age"] == "1"


def test_index__nothing_stored(site: Site) -> None:
    """Only-if-cached runs nothing: 504 when there is nothing stored."""
    client = site(PASSES)
    response = client.get("/smoketest/", headers={"cache-control": "only-if-cached"})
    assert response.status_code == 504
    assert "only-if-cached" in response.text


def test_index__too_many_wait(site: Site) -> None:
    """503 with Retry-After for those who may not wait."""
    client = site(PASSES)
    folder = assembly.state_folder()
    locks = [HostLock(folder, name).acquire() for name in ("run", "waiting-0", "waiting-1")]
    response = client.get("/smoketest/")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "2"
    assert response.text.endswith("Ask again in 2 s.\n")
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
    assert client.post("/smoketest/").status_code == 405


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
    with override_settings(ROOT_URLCONF=__name__):
        response = site(PASSES).get("/own/")
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
    site(PASSES)
    with override_settings(ROOT_URLCONF=__name__):
        response = asyncio.run(get_async("/own/"))
    assert response.text.startswith("PASS")
    assert response.headers["X-Site"] == "shop"
    assert response.cookies["seen"].value == "1"


def test_metrics__before_any_run(site: Site) -> None:
    """200 and what is known: nothing has run, and the store works."""
    response = site(PASSES).get("/smoketest/metrics")
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
    assert 'url="https://shop.example/smoketest/?test=app0.smoke.T.test_good"' in info
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
