"""Three processes of one host that all want to run the tests, again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.promises.site import PromiseSite
from tests.servers.site import gunicorn

pytestmark = pytest.mark.e2e

#: Seconds that a run takes, nearly all of it between the marks that one of its tests leaves.
SUITE = 0.3
#: Seconds for which they race.
RACE = 5.0
#: How often each of them runs the tests at the least, however slow it is to start.
ROUNDS = 3


@pytest.fixture
def sites() -> Iterator[tuple[PromiseSite, PromiseSite]]:
    """Two masters of the same site, with the same data."""
    variables = {"PROMISES_MARKS": str(SUITE), "EXAMPLE_INTERVAL": "3600"}
    with PromiseSite(gunicorn(workers=2), **variables) as one:
        variables["EXAMPLE_DATA_DIR"] = str(one.data_folder)
        with PromiseSite(gunicorn(workers=2), **variables) as other:
            for site in (one, other):
                site.run_tests()
            yield one, other


def test_race__one_run_at_a_time(sites: tuple[PromiseSite, PromiseSite]) -> None:
    """Runs take turns, each counts once, each client gets its report, and the site answers."""
    one, other = sites
    runs_before = sum(one.metrics().matching("smoketest_runs_total").values())
    until = time.monotonic() + RACE
    start = threading.Barrier(4)

    def again_and_again(act: Callable[[], object], pause: float = 0.0) -> list[object]:
        """What it returned each time."""
        returned: list[object] = []
        start.wait()
        while time.monotonic() < until or len(returned) < ROUNDS:
            returned.append(act())
            time.sleep(pause)
        return returned

    def marks() -> list[list[str]]:
        return [line.split() for line in (one.data_folder / "marks").read_text().splitlines()]

    def request(site: PromiseSite) -> None:
        assert site.run_tests()["status"] == "PASS"

    def page() -> bool:
        """Whether both sites answered while the same run was in progress."""
        before = marks()
        for site in sites:
            assert site.get("/").status == 200
        return before[-1][0] == "begin" and marks() == before

    with ThreadPoolExecutor(4) as pool:
        racers = {
            "first master": pool.submit(again_and_again, lambda: request(one)),
            "second master": pool.submit(again_and_again, lambda: request(other)),
            "command": pool.submit(again_and_again, lambda: one.manage("smoketest")),
        }
        pages = pool.submit(again_and_again, page, 0.05)
        asked = {name: len(racer.result()) for name, racer in racers.items()}
        assert any(pages.result()), "no page was answered while a run was in progress"

    begins, ends = marks()[::2], marks()[1::2]
    assert {what for what, _ in begins} == {"begin"}, "a run began while another went on"
    assert {what for what, _ in ends} == {"end"}
    assert [pid for _, pid in begins] == [pid for _, pid in ends]
    racing_processes = {pid for _, pid in begins}
    assert len(racing_processes) > 3, "two masters and at least two commands"

    after = one.metrics()
    runs = after.by("result", "smoketest_runs_total")
    assert runs == {"passed": len(begins), "failed": 0, "aborted": 0}
    assert sum(runs.values()) > runs_before
    (of_the_test,) = after.by(
        "test",
        "smoketest_test_runs_total",
        test="tests.e2e.promises.smoke.MarkTest.test_mark",
        outcome="passed",
    ).values()
    assert of_the_test == len(begins)
    # Those who insist on a run that begins after they ask may share it, the command never does.
    assert asked["command"] < runs["passed"] - runs_before <= sum(asked.values())
