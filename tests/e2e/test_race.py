"""Three processes on a host that run the tests concurrently."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.misbehaving.site import MisbehavingSite
from tests.servers.site import gunicorn

pytestmark = pytest.mark.e2e

#: Seconds that a run takes, mostly between the two marks of a test.
SUITE = 0.3
#: Seconds for which the processes compete.
RACE = 5.0
#: Minimum number of runs per process.
ROUNDS = 3


@pytest.fixture
def sites() -> Iterator[tuple[MisbehavingSite, MisbehavingSite]]:
    """Start two gunicorn masters of the same site, with the same data."""
    variables = {"MISBEHAVING_MARKS": str(SUITE), "EXAMPLE_INTERVAL": "3600"}
    with MisbehavingSite(gunicorn(workers=2), **variables) as one:
        variables["EXAMPLE_DATA_DIR"] = str(one.data_folder)
        with MisbehavingSite(gunicorn(workers=2), **variables) as other:
            for site in (one, other):
                site.run_tests()
            yield one, other


def test_race__one_run_at_a_time(sites: tuple[MisbehavingSite, MisbehavingSite]) -> None:
    """Only one run is active at a time, each counts once, and the site keeps responding."""
    one, other = sites
    runs_before = sum(one.metrics().matching("smoketest_runs_total").values())
    until = time.monotonic() + RACE
    start = threading.Barrier(4)

    def repeat(act: Callable[[], object], pause: float = 0.0) -> list[object]:
        """Call `act` repeatedly and return the results."""
        returned: list[object] = []
        start.wait()
        while time.monotonic() < until or len(returned) < ROUNDS:
            returned.append(act())
            time.sleep(pause)
        return returned

    def marks() -> list[list[str]]:
        return [line.split() for line in (one.data_folder / "marks").read_text().splitlines()]

    def request(site: MisbehavingSite) -> None:
        assert site.run_tests()["status"] == "PASS"

    def page() -> bool:
        """Return whether both sites responded during the same run."""
        before = marks()
        for site in sites:
            assert site.get("/").status == 200
        return before[-1][0] == "begin" and marks() == before

    with ThreadPoolExecutor(4) as pool:
        clients = {
            "first master": pool.submit(repeat, lambda: request(one)),
            "second master": pool.submit(repeat, lambda: request(other)),
            "command": pool.submit(repeat, lambda: one.manage("smoketest")),
        }
        pages = pool.submit(repeat, page, 0.05)
        calls = {name: len(client.result()) for name, client in clients.items()}
        assert any(pages.result()), "no page was served during a run"

    begins, ends = marks()[::2], marks()[1::2]
    assert {what for what, _ in begins} == {"begin"}, "two runs were active at the same time"
    assert {what for what, _ in ends} == {"end"}
    assert [pid for _, pid in begins] == [pid for _, pid in ends]
    run_processes = {pid for _, pid in begins}
    assert len(run_processes) > 3, "expected two masters and at least two commands"

    after = one.metrics()
    runs = after.by("result", "smoketest_runs_total")
    assert runs == {"passed": len(begins), "failed": 0, "aborted": 0}
    assert sum(runs.values()) > runs_before
    (of_the_test,) = after.by(
        "test",
        "smoketest_test_runs_total",
        test="tests.e2e.misbehaving.smoke.MarkTest.test_mark",
        outcome="passed",
    ).values()
    assert of_the_test == len(begins)
    # Requests may share a run that starts after they arrive; commands never share a run.
    assert calls["command"] < runs["passed"] - runs_before <= sum(calls.values())
