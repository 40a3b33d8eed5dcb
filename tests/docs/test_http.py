"""Tests of docs/http.md: it matches the endpoint."""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from smoketest import services
from smoketest.formats import HTTP_FORMATS
from smoketest.metrics import OPEN_METRICS
from smoketest.views import IndexView
from smoketest.web import query
from tests.conftest import Site
from tests.docs.markdown import DOCS, Shown, commands, without_times
from tests.e2e.test_readme import NewSite
from tests.servers.client import get
from tests.servers.processes import wait_for
from tests.servers.services import require

PAGE = (DOCS / "http.md").read_text()
COMMANDS = commands(PAGE)
TOKEN = "a-token-of-the-page-0123"
TWO_TESTS = """
    class OrdersTest(SmokeTest):
        @tag("readiness")
        def test_a(self): pass
        def test_b(self): {}
"""
PASSES = TWO_TESTS.format("pass")
FAILS = TWO_TESTS.format("self.fail('it fails')")


def rows(heading: str, *, after: str = "") -> list[list[str]]:
    """Return the cells of the first table below the heading, and below `after`."""
    part = PAGE[PAGE.index(f"## {heading}\n") :]
    part = part[part.index(after) :]
    table = re.search(r"^\|.*\n\| ---.*\n((?:\|.*\n)+)", part, re.MULTILINE)
    assert table, heading
    return [[cell.strip() for cell in row[1:-2].split("|")] for row in table[1].splitlines()]


def names(cells: list[list[str]]) -> list[str]:
    """Return the names in backquotes in the first column."""
    return [name for row in cells for name in re.findall(r"`([^`]+)`", row[0])]


# Tables


def test_formats__match_the_endpoint() -> None:
    there = {row[0].strip("`"): row[1].strip("`") for row in rows("Formats")}
    assert there == {one.name: one.media_type for one in HTTP_FORMATS.values()}


def test_parameters__match_the_endpoint() -> None:
    assert names(rows("Query parameters")) == list(query.PARAMETERS)
    (sentence,) = re.findall(r"also takes (.*), which filter", PAGE)
    assert re.findall(r"`(\w+)`", sentence) == list(query.PAGE_PARAMETERS)


def test_json__has_the_listed_keys(site: Site) -> None:
    """The keys of the report are listed in order, those of a result in any order."""
    answer = site(PASSES, DEBUG=True).get("/smoketest/?format=json").json()
    assert names(rows("JSON")) == list(answer)
    assert set(names(rows("JSON", after="Each object in `results`:"))) == set(answer["results"][0])


def test_methods__match_the_view() -> None:
    (row,) = (row for row in rows("Status codes") if row[0] == "405")
    assert set(re.findall(r"\b[A-Z]{3,}\b", row[1])) == {
        method.upper() for method in IndexView.http_method_names
    }


# Status codes


def statuses() -> dict[str, Any]:
    """Return functions that get a response, by its status code."""
    return {
        "200": lambda site: site(PASSES).get("/smoketest/"),
        "400": lambda site: site(PASSES).get("/smoketest/?tset=a"),
        "401": lambda site: site(PASSES, SMOKETEST_TOKENS=[TOKEN]).get("/smoketest/"),
        "403": lambda site: site(PASSES) and Client(enforce_csrf_checks=True).post("/smoketest/"),
        "404": lambda site: site(PASSES).get("/smoketest/?test=nothing"),
        "405": lambda site: site(PASSES).put("/smoketest/"),
        "500": lambda site: site(FAILS).get("/smoketest/"),
        "503": lambda site: _paused(site(PASSES)).get("/smoketest/"),
        "504": lambda site: site(PASSES).get("/smoketest/?only_if_cached=1"),
    }


def _paused(client: Client) -> Client:
    call_command("smoketest", "--pause", "1h", "--reason", "a test")
    return client


@pytest.mark.parametrize("status", [row[0] for row in rows("Status codes")])
def test_status__is_returned(site: Site, status: str) -> None:
    response = statuses()[status](site)
    assert response.status_code == int(status)
    assert ("Retry-After" in response.headers) == (status == "503")


def test_statuses__are_all_listed() -> None:
    assert set(statuses()) == {row[0] for row in rows("Status codes")}


@pytest.mark.parametrize("format_name", ["text", "json", "html"])
def test_error__has_the_requested_format(site: Site, format_name: str) -> None:
    response = site(PASSES).get(f"/smoketest/?test=nothing&format={format_name}")
    media_type = response["Content-Type"].partition(";")[0]
    assert media_type == HTTP_FORMATS[format_name].media_type
    if format_name == "json":
        assert {"status", "error"} <= set(response.json())


# Freshness


def ask(client: Client, cache_control: str = "", path: str = "/smoketest/") -> Any:
    headers = {"Cache-Control": cache_control} if cache_control else {}
    return client.get(path, {"format": "json"}, headers=headers)


def is_same_run(one: Any, other: Any) -> bool:
    return bool(one.json()["started_at"] == other.json()["started_at"])


@pytest.mark.parametrize(
    ("cache_control", "answers"),
    [
        ("", True),
        ("max-age=60", True),
        ("only-if-cached", True),
        ("max-age=0", False),
        ("no-cache", False),
    ],
)
def test_stored_result__answers(site: Site, cache_control: str, answers: bool) -> None:
    client = site(PASSES)
    first = ask(client)
    assert is_same_run(first, ask(client, cache_control)) is answers


def test_stored_result__of_all_tests_answers_for_some_but_not_the_reverse(site: Site) -> None:
    client = site(PASSES)
    everything = ask(client)
    some = client.get("/smoketest/", {"format": "json", "tag": "readiness"})
    assert is_same_run(everything, some)
    some = client.get(
        "/smoketest/", {"format": "json", "tag": "readiness"}, headers={"Cache-Control": "no-cache"}
    )
    assert not is_same_run(some, ask(client))


def test_stored_result__of_the_previous_release_does_not_answer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = site(PASSES)
    before = ask(client)
    monkeypatch.setattr(services._app_config(), "code_loaded_at", float("inf"))
    assert not is_same_run(before, ask(client))


def test_response__has_an_age_and_is_not_cacheable(site: Site) -> None:
    response = ask(site(PASSES))
    assert response["Age"] == "0"
    (shown,) = re.findall(r"`Cache-Control: (no-store.*?)`", PAGE)
    assert response["Cache-Control"] == shown


# Streaming


def events(response: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.getvalue().splitlines()]


def test_stream__has_the_listed_events(site: Site) -> None:
    """Each event has the listed fields; `waiting` needs a run in progress, and has no fields."""
    client = site(PASSES)
    received = events(
        client.get("/smoketest/?format=ndjson", headers={"Cache-Control": "no-cache"})
    )
    assert [one["event"] for one in received] == [
        *("start", "running", "test", "running", "test", "report")
    ]
    fields = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows("Streaming")}
    for one in received:
        assert [name for name in one if name != "event"] == fields[one["event"]]
    problem = json.loads(client.get("/smoketest/?test=nothing&format=ndjson").content)
    assert list(problem) == ["event", *fields["error"]]
    assert set(fields) == {"waiting", "start", "running", "test", "report", "error"}


def test_stream__of_a_stored_result_is_a_report_with_its_status(site: Site) -> None:
    client = site(FAILS)
    first = client.get("/smoketest/?format=ndjson", headers={"Cache-Control": "no-cache"})
    assert (first.status_code, events(first)[-1]["report"]["status"]) == (200, "FAIL")
    stored = client.get("/smoketest/?format=ndjson")
    assert stored.status_code == 500
    assert [one["event"] for one in events(stored)] == ["report"]


# Authentication and metrics


def test_token__is_accepted_as_bearer_and_as_password(site: Site) -> None:
    """The commands of the page get a response; the same requests without a token do not."""
    client = site(PASSES, SMOKETEST_TOKENS=[TOKEN])
    shown = [s.command.replace("TOKEN", TOKEN) for s in COMMANDS if "TOKEN" in s.command]
    assert len(shown) == 2
    for command in shown:
        address, headers = request_of(command)
        assert client.get(address, headers=headers).status_code == 200
        assert client.get(address).status_code == 401


def test_public_status__is_one_word(site: Site) -> None:
    client = site(PASSES, SMOKETEST_TOKENS=[TOKEN], SMOKETEST_PUBLIC_STATUS=True)
    client.get("/smoketest/", headers={"Authorization": f"Bearer {TOKEN}"})
    assert client.get("/smoketest/").content == b"PASS\n"
    assert client.get("/smoketest/metrics").status_code == 401


def test_metrics__return_200_if_a_test_fails(site: Site) -> None:
    client = site(FAILS)
    assert client.get("/smoketest/").status_code == 500
    response = client.get("/smoketest/metrics", headers={"Accept": "application/openmetrics-text"})
    assert response.status_code == 200
    assert response["Content-Type"] == OPEN_METRICS.content_type
    assert "smoketest_last_run_success 0.0" in response.text


# Commands


def request_of(command: str) -> tuple[str, dict[str, str]]:
    """Return the path and the headers of the request that curl would send."""
    curl, *words = shlex.split(command)
    assert curl == "curl"
    headers = {}
    address = ""
    while words:
        match words.pop(0):
            case "--header":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            case "--user":
                headers["Authorization"] = f"Basic {b64encode(words.pop(0).encode()).decode()}"
            case "--fail" | "--no-buffer":
                pass
            case word:
                assert not address, f"curl {word}"
                address = word.removeprefix("http://127.0.0.1:8000")
    return address, headers


@pytest.fixture(scope="module")
def new_site() -> Iterator[NewSite]:
    require("curl")
    with NewSite() as site:
        smoke = site.read("orders/smoke.py")
        more = "\n    @tag('checkout')\n    def test_checkout(self): pass\n"
        site.write("orders/smoke.py", smoke + more)
        yield site


@pytest.mark.e2e
@pytest.mark.parametrize("shown", COMMANDS, ids=lambda shown: shown.command)
def test_command__prints_the_shown_output(new_site: NewSite, shown: Shown) -> None:
    """curl exits with 0 for a site whose tests pass."""
    typed = shown.command.replace("127.0.0.1:8000", new_site.address)
    words = [*shlex.split(typed), "--silent", "--show-error", "--fail"]
    if "only" in shown.command:
        # Wait until a result is stored whose run started after all workers loaded their code.
        def run_then_request() -> int:
            get(new_site.port, "/smoketest/", {"Cache-Control": "no-cache"})
            return new_site.run(*words, check=False).returncode

        wait_for(
            run_then_request,
            lambda code: code == 0,
            what="a stored result",
        )
    done = new_site.run(*words)
    assert done.stdout
    if shown.output:
        expected = re.sub(
            r"(run|passed): 2", r"\1: 3", shown.output
        )  # including the test added above
        assert without_times(done.stdout) == without_times(expected)
