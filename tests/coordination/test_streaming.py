"""Streaming of the events of a run as newline-delimited JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import AsyncClient, Client

from smoketest.store.directory import StateFolder
from smoketest.store.locks import HostLock
from tests import hanging
from tests.conftest import Site, connecting_receiver
from tests.servers.processes import wait_for

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

NDJSON = {"Accept": "application/x-ndjson"}

MIXED = """
class A(SmokeTest):
    def test_bad(self):
        self.assertEqual(1, 2)
    def test_good(self):
        pass
    @unittest.skip("not today")
    def test_skipped(self):
        pass
"""
HANGS = """
from tests import hanging
class A(SmokeTest):
    def test_1(self):
        pass
    def test_2(self):
        hanging.hang()
"""


@pytest.fixture(autouse=True)
def hangs() -> Iterator[None]:
    """Let the second test of `HANGS` hang until the end of the test."""
    hanging.reset()
    yield
    hanging.released.set()


def lines(content: str) -> list[dict[str, Any]]:
    assert content.endswith("\n")
    return [json.loads(line) for line in content.splitlines()]


def events(client: Client, query: str = "", **headers: str) -> list[dict[str, Any]]:
    response: Any = client.get(f"/smoketest/{query}", headers=NDJSON | headers)
    return lines(b"".join(response.streaming_content).decode())


def test_events__of_a_run(site: Site) -> None:
    """The events are the start, each running test with its result, and the report."""
    client = site(MIXED)
    start, *events_of_tests, report = events(client)
    tests = [one for one in events_of_tests if one["event"] == "test"]
    ids = [f"app0.smoke.A.test_{name}" for name in ("bad", "good", "skipped")]
    assert start == {"event": "start", "tests": 3, "ids": ids}
    assert [(one["event"], one.get("id") or one["result"]["id"]) for one in events_of_tests] == [
        (event, test_id) for test_id in ids for event in ("running", "test")
    ]
    assert [one["result"]["outcome"] for one in tests] == ["failed", "passed", "skipped"]
    assert report["event"] == "report"
    assert report["report"]["results"] == [one["result"] for one in tests]
    as_json = client.get("/smoketest/?format=json").json()
    assert {**report["report"], "age": None} == {**as_json, "age": None}


def test_response__is_a_stream(site: Site) -> None:
    """The response is neither stored by caches nor buffered by proxies."""
    response = site(MIXED).get("/smoketest/?format=ndjson")
    assert response.streaming
    assert response.status_code == 200  # sent before the tests have run
    assert response["Content-Type"] == "application/x-ndjson"
    assert response["Cache-Control"] == "no-store, private"
    assert response["X-Accel-Buffering"] == "no"


def test_stored_result__is_a_single_report(site: Site) -> None:
    """A stored result is sent as a report, with its status code."""
    client = site(MIXED)
    events(client)
    response: Any = client.get("/smoketest/", headers=NDJSON)
    assert response.status_code == 500
    (report,) = lines(b"".join(response.streaming_content).decode())
    assert report["report"]["status"] == "FAIL"
    assert report["report"]["age"] > 0


def test_events__are_sent_immediately(site: Site) -> None:
    """The result of the first test is sent while the second test is running."""
    response: Any = site(HANGS).get("/smoketest/", headers=NDJSON)
    found = []
    for line in response.streaming_content:
        event = json.loads(line)
        found.append(event["event"])
        if found.count("test") == 1 and not hanging.released.is_set():
            assert event["result"]["id"] == "app0.smoke.A.test_1"
            hanging.assert_hanging()
            hanging.released.set()
    assert found == ["start", *(2 * ["running", "test"]), "report"]
    assert event["report"]["status"] == "PASS"


def test_run__continues_after_client_disconnects(site: Site) -> None:
    """The result of the run is stored."""
    client = site(HANGS)
    response: Any = client.get("/smoketest/", headers=NDJSON)
    next(iter(response.streaming_content))
    response.close()
    hanging.assert_hanging()
    hanging.released.set()
    report = client.get("/smoketest/?format=json").json()  # waits for that run
    assert report["status"] == "PASS"
    assert len(events(client)) == 1


def test_run__closes_connections(site: Site) -> None:
    """Connections that a signal receiver opens in the thread are closed."""
    with connecting_receiver() as opened:
        events(site(MIXED))
    assert opened  # the run of an earlier test may end meanwhile, and then also counts
    for connection in opened:
        wait_for(lambda c=connection: c.connection is None, what="the end of the thread")


def test_waiting__for_another_run(site: Site, tmp_path: Path) -> None:
    """A request that waits for another run gets a `waiting` event first."""
    client = site(MIXED)
    events(client)
    release = HostLock(StateFolder(tmp_path / "state", 0o600), "run").acquire()
    assert release is not None
    response: Any = client.get("/smoketest/", headers=NDJSON | {"Cache-Control": "no-cache"})
    stream = iter(response.streaming_content)
    assert json.loads(next(stream)) == {"event": "waiting"}
    release()
    assert json.loads(next(stream))["event"] == "start"
    assert json.loads([*stream][-1])["event"] == "report"


@pytest.mark.parametrize(
    ("query", "status", "expected"),
    [
        ("?test=nothing", 404, "No smoke test matches"),
        ("?only_if_cached=1&max_age=0", 504, "No stored result is fresh enough"),
        ("?nonsense=1", 400, "Unknown parameter 'nonsense'"),
    ],
)
def test_error__status_code(site: Site, query: str, status: int, expected: str) -> None:
    """An error is a single event with the status code of the response."""
    response = site(MIXED).get(f"/smoketest/{query}", headers=NDJSON)
    assert response.status_code == status
    (error,) = lines(response.text)
    assert error["event"] == "error"
    assert error["status"] == status
    assert expected in error["message"]


def test_tracebacks__require_full_access(site: Site) -> None:
    client = site(MIXED, SMOKETEST_TOKENS=["a-token-of-some-length"])
    assert client.get("/smoketest/", headers=NDJSON).status_code == 401
    _, _, first, *_ = events(client, Authorization="Bearer a-token-of-some-length")
    assert "self.assertEqual(1, 2)" in first["result"]["traceback"]


def test_secrets__are_masked_in_events(site: Site) -> None:
    smoke = MIXED.replace("self.assertEqual(1, 2)", "self.fail('the-hidden-one')")
    content = json.dumps(events(site(smoke, SHOP_PASSWORD="the-hidden-one", DEBUG=True)))
    assert "the-hidden-one" not in content


def test_fixtures__have_no_running_event(site: Site) -> None:
    """Fixtures have no result unless they fail, and therefore no `running` event."""
    client = site("""
class A(SmokeTest):
    @classmethod
    def setUpClass(cls): pass
    def test_1(self): pass

def tearDownModule(): pass
""")
    running = [event["id"] for event in events(client) if event["event"] == "running"]
    assert running == ["app0.smoke.A.test_1"]


def test_collection_error__event(site: Site) -> None:
    """A collection error is listed as a test, and its result follows at once."""
    start, error, report = events(site("raise RuntimeError('broken')"))
    assert start["ids"] == ["app0.smoke"]
    assert error["result"]["message"] == "cannot be imported: broken"
    assert report["report"]["status"] == "FAIL"


def test_asgi__does_not_block_the_event_loop(site: Site) -> None:
    """The stream does not block the event loop between lines."""
    site(HANGS)
    has_result = asyncio.Event()

    async def release() -> None:
        await has_result.wait()
        await asyncio.sleep(0.05)  # the stream is waiting for the next line
        hanging.assert_hanging()
        hanging.released.set()

    async def collect_events() -> list[dict[str, Any]]:
        response: Any = await AsyncClient().get("/smoketest/", headers=NDJSON)
        releasing = asyncio.create_task(release())
        found: list[dict[str, Any]] = []
        async for part in response.streaming_content:
            found += lines(part.decode())
            if found[-1]["event"] == "test":
                has_result.set()
        await releasing
        return found

    found = asyncio.run(collect_events())
    assert [event["event"] for event in found] == ["start", *(2 * ["running", "test"]), "report"]
    assert found[-1]["report"]["status"] == "PASS", "the event loop was blocked"
