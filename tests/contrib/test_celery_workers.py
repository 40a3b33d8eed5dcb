"""Tests of smoketest.contrib.celery with a real broker, real workers and a real beat."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from smoketest.results import Report
from smoketest.runner.loader import find
from smoketest.runner.supervisor import run
from smoketest.store.abandoned import LocallyAbandoned
from tests.conftest import EVERYTHING, options, outcomes, result_of
from tests.servers.celery import Beat, Worker
from tests.servers.processes import free_port, wait_for
from tests.servers.redis import Redis
from tests.servers.services import missing

# One worker, so that the servers start once.
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group(__name__)]

APP = "smoketest.contrib.celery"
PASSWORD = "correct-horse"

#: Duration of the task of a busy worker, in seconds; the worker is killed before it ends.
LONG = 600

SETTINGS = """
SECRET_KEY = "not-secret"
USE_TZ = True
INSTALLED_APPS = {apps!r}
CELERY_BROKER_URL = {broker!r}
{more}
"""
CELERY = """
import os, time
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from celery import Celery
app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

@app.task(name="shop.bake", shared=False)
def bake(seconds):
    time.sleep(seconds)
"""


@dataclass
class Shop:
    """A site with a Celery app. Workers use its settings file; smoke tests run in this process."""

    folder: Path
    broker: Redis

    def write(self, *, apps: tuple[str, ...] = ("smoketest", APP), more: str = "") -> None:
        package = self.folder / "shop"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "celery.py").write_text(CELERY)
        source = SETTINGS.format(apps=list(apps), broker=self.url, more=more)
        (package / "settings.py").write_text(source)

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@{self.broker.address}/0"

    def worker(self, *arguments: str) -> Worker:
        return Worker("shop", self.folder, *arguments)

    def beat(self) -> Beat:
        return Beat("shop", self.folder)

    def bake(self, seconds: float) -> None:
        """Send a task to a worker."""
        with self.installed():
            app = import_module("shop.celery").app
            with app.connection_for_write() as connection:
                app.send_task("shop.bake", args=[seconds], connection=connection)

    def installed(self, **settings: Any) -> override_settings:
        defaults = {
            "INSTALLED_APPS": ["smoketest", APP],
            "CELERY_BROKER_URL": self.url,
            "SMOKETEST_CELERY_APP": "shop",
            "SMOKETEST_STATE_DIR": str(self.folder / "state"),
            "SMOKETEST_CELERY_REPLY_TIMEOUT": 30,
        }
        return override_settings(**defaults | settings)

    def run(self, **settings: Any) -> Report:
        """Run the smoke tests of Celery like a new process."""
        unload_modules()
        with self.installed(**settings):
            suite = find(EVERYTHING, options())
            assert suite.collection_errors == ()
            report = run(suite, EVERYTHING, options(), abandoned=LocallyAbandoned(), carried={})
        unload_modules()
        for result in report.results:
            assert PASSWORD not in result.message + result.traceback
        return report

    def keys_left(self) -> set[str]:
        """Return the keys in Redis that do not expire."""
        redis = import_module("redis").Redis.from_url(self.url, decode_responses=True)
        with redis:
            return {key for key in redis.scan_iter() if redis.ttl(key) < 0}


def unload_modules() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "shop"]:
        del sys.modules[name]
    sys.modules.pop(f"{APP}.smoke", None)


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    for library in ("celery", "redis"):
        if find_spec(library) is None:
            missing(f"{library} is not installed: pip install {library}")
    with Redis(requirepass=PASSWORD) as server:
        yield server


@pytest.fixture
def shop(tmp_path: Path, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    client = import_module("redis").Redis.from_url(f"redis://:{PASSWORD}@{redis.address}/0")
    with client:
        client.flushdb()
    monkeypatch.setattr(f"{APP}.records._memory", {})
    # Limits that hold on a slow machine; a reply of the worker ends each wait early.
    monkeypatch.setattr(f"{APP}.cases.CeleryTest.timeout", 120)
    monkeypatch.setattr(f"{APP}.rounds.WAIT", 30)
    monkeypatch.setattr(f"{APP}.survey.CACHE_SECONDS", 60)
    monkeypatch.setattr(f"{APP}.survey.MAX_WAIT", 120)
    wait_for_broker(20, monkeypatch)
    environment = os.environ.get("DJANGO_SETTINGS_MODULE")
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Shop(tmp_path, redis)
    made.write()
    yield made
    unload_modules()
    assert os.environ.get("DJANGO_SETTINGS_MODULE") == environment


def wait_for_broker(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the timeout for each reply of the broker."""
    monkeypatch.setattr(f"{APP}.broker.TIMEOUT", seconds)
    for name in ("socket_connect_timeout", "socket_timeout"):
        monkeypatch.setitem(import_module(f"{APP}.broker")._OF_REDIS, name, seconds)


def message(report: Report, name: str, outcome: str = "failed") -> str:
    result = result_of(report, name)
    assert result.outcome == outcome, f"{result.outcome}: {result.message}\n{result.traceback}"
    return result.message


def test_worker__responds_and_runs_task(shop: Shop) -> None:
    """Each run sends its own task and leaves no keys in Redis; no result backend is needed."""
    with shop.worker() as worker:
        before = shop.keys_left()
        for _ in range(3):
            report = shop.run()
            assert outcomes(report) == {
                "test_task_goes_round": "passed",
                "test_worker_answers": "passed",
            }
            assert report.duration < 15, "half of the timeout for replies"
        assert shop.keys_left() == before
        assert worker.log.count("smoketest.contrib.celery.ping") >= 4
    assert [r.id.split(".")[-2] for r in report.results] == ["CeleryQueueTest"] * 2


def test_queue_without_worker(shop: Shop) -> None:
    """Only its tests fail; the message lists other workers, and no task is sent to the queue."""
    queues = ["celery", "high-priority"]
    with shop.worker():
        # A queue without a worker costs the whole timeout, because another worker may still reply.
        report = shop.run(SMOKETEST_CELERY_QUEUES=queues, SMOKETEST_CELERY_REPLY_TIMEOUT=3)
    assert result_of(report, "CeleryQueueTest.test_worker_answers").outcome == "passed"
    assert result_of(report, "CeleryQueueTest.test_task_goes_round").outcome == "passed"
    text = message(report, "HighPriorityQueueTest.test_worker_answers")
    assert "No worker consumes from the queue 'high-priority'" in text
    assert "from celery. Start one: celery -A ... worker -Q high-priority" in text
    message(report, "HighPriorityQueueTest.test_task_goes_round", "skipped")
    assert "high-priority" not in shop.keys_left()


def test_worker_stopped(shop: Shop) -> None:
    """The test fails after the worker stops, and no task is sent to the queue."""
    with shop.worker() as worker:
        assert set(outcomes(shop.run()).values()) == {"passed"}
        worker.stop()
        before = shop.keys_left()
        for _ in range(2):
            report = shop.run(SMOKETEST_CELERY_REPLY_TIMEOUT=0.5)
            text = message(report, "test_worker_answers")
            assert "No worker replied within 0.5 s" in text
            message(report, "test_task_goes_round", "skipped")
        assert shop.keys_left() == before
        worker.start()
        assert set(outcomes(shop.run()).values()) == {"passed"}


def test_busy_worker__no_false_alarm(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy worker replies, and the tests pass until a task has waited too long."""
    with shop.worker("--prefetch-multiplier", "1") as worker:
        message(shop.run(), "test_task_goes_round", "passed")
        keep_busy(shop, worker, monkeypatch)
        for _ in range(2):
            assert set(outcomes(shop.run()).values()) == {"passed"}
        assert waiting_tasks(shop, worker) == 1
        make_first_task_wait(shop, 1000)
        late = shop.run()
        assert result_of(late, "test_worker_answers").outcome == "passed"
        text = message(late, "test_task_goes_round")
        assert "No task from the queue 'celery' has been run for" in text
        assert "SMOKETEST_CELERY_MAX_LATENCY, which is 300 s" in text
        worker.kill9()


def keep_busy(shop: Shop, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Occupy the only child of the worker with a long task."""
    shop.bake(LONG)
    wait_for(
        lambda: worker.log,
        lambda log: re.search(r"shop\.bake\[\S+\] received", log),
        what="the task",
    )
    monkeypatch.setattr(f"{APP}.rounds.WAIT", 0.5)  # the next task does not return


def make_first_task_wait(shop: Shop, seconds: float) -> None:
    """Backdate the first task that has not returned by this number of seconds."""
    records = import_module(f"{APP}.records")
    with shop.installed():
        record = records.load("queue celery")
        assert record.key
        waiting_since = record.waiting_since - seconds
        records.save("queue celery", replace(record, waiting_since=waiting_since))


def waiting_tasks(shop: Shop, worker: Worker) -> int:
    """Return the number of round-trip tasks that have not been run."""
    redis = import_module("redis").Redis.from_url(shop.url)
    with redis:
        in_queue = redis.llen("celery")
    received = re.findall(r"contrib\.celery\.ping\[\S+\] received", worker.log)
    done = re.findall(r"contrib\.celery\.ping\[\S+\] succeeded", worker.log)
    return int(in_queue) + len(received) - len(done)


def test_first_task__waiting(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test is skipped on a new site with busy workers."""
    with shop.worker() as worker:
        keep_busy(shop, worker, monkeypatch)
        text = message(shop.run(), "test_task_goes_round", "skipped")
        assert re.search(r"no task has returned yet; one has been waiting for \d+ s", text)
        worker.kill9()


def test_workers_without_the_app(shop: Shop) -> None:
    """The message says what to do, and no unknown task is sent."""
    shop.write(apps=("smoketest",))
    with shop.worker() as worker:
        report = shop.run()
        assert "Received unregistered task" not in worker.log
    message(report, "test_worker_answers", "passed")
    text = message(report, "test_task_goes_round")
    assert 'add "smoketest.contrib.celery" to their INSTALLED_APPS' in text


def test_threads__respond_while_busy(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with a thread pool replies while it is busy."""
    with shop.worker("--pool", "threads") as worker:
        assert set(outcomes(shop.run()).values()) == {"passed"}
        keep_busy(shop, worker, monkeypatch)
        assert set(outcomes(shop.run()).values()) == {"passed"}
        worker.kill9()


def test_broker_down(shop: Shop) -> None:
    """All tests fail immediately; the message contains the URL without the password."""
    port = free_port()
    url = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
    started = time.monotonic()
    report = shop.run(
        CELERY_BROKER_URL=url,
        SMOKETEST_CELERY_QUEUES=["one", "two", "three"],
        SMOKETEST_CELERY_BEAT=True,
    )
    assert time.monotonic() - started < 30
    assert {str(result.outcome) for result in report.results} == {"failed"}
    assert len(report.results) == 7
    for result in report.results:
        assert f"127.0.0.1:{port}/0 cannot be used: " in result.message


def test_broker_hangs(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run waits only once for a broker that accepts connections and never replies."""
    wait_for_broker(2, monkeypatch)
    survey, waits = import_module(f"{APP}.survey"), []
    connected = survey.connected

    def counting(app: Any) -> Any:
        waits.append(app)
        return connected(app)

    monkeypatch.setattr(survey, "connected", counting)
    with Redis() as broker:
        broker.talk("CLIENT", "PAUSE", "600000", "ALL")
        report = shop.run(
            CELERY_BROKER_URL=broker.url, SMOKETEST_CELERY_QUEUES=["one", "two", "three"]
        )
    assert {str(result.outcome) for result in report.results} == {"failed"}
    assert len(waits) == 1


def test_broker_connection_lost(shop: Shop) -> None:
    """A connection that is lost is not retried."""
    broker_module = import_module(f"{APP}.broker")
    with Redis() as broker, shop.installed(CELERY_BROKER_URL=broker.url):
        app = import_module("shop.celery").app

        def send() -> None:
            with broker_module.connected(app) as connection:
                connection.default_channel.client.ping()
                broker.kill9()
                broker_module.send_command(app, connection, "worker", "nothing", {})

        started = time.monotonic()
        with pytest.raises(broker_module.BrokerError):
            send()
    assert time.monotonic() - started < 30


def test_wrong_password(shop: Shop) -> None:
    """The message describes the error of the broker, without the password."""
    wrong = f"redis://:not-{PASSWORD}@{shop.broker.address}/0"
    report = shop.run(CELERY_BROKER_URL=wrong)
    assert "cannot be used" in message(report, "test_worker_answers")


def test_beat(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test passes while beat sends heartbeats, and fails after the maximum age."""
    beat_settings = {
        "SMOKETEST_CELERY_BEAT": True,
        "SMOKETEST_CELERY_BEAT_INTERVAL": 1,
        "SMOKETEST_CELERY_BEAT_MAX_AGE": 600,
    }
    shop.write(more="\n".join(f"{name} = {value!r}" for name, value in beat_settings.items()))

    def state() -> str:
        return str(
            result_of(shop.run(**beat_settings), "CeleryBeatTest.test_beat_is_alive").outcome
        )

    with shop.worker() as worker:
        assert state() == "skipped"  # just started
        with shop.beat():
            wait_for(state, lambda seen: seen == "passed", what="a heartbeat")
        assert state() == "passed"  # not yet too old
        time.sleep(2)
        beat_settings["SMOKETEST_CELERY_BEAT_MAX_AGE"] = 1.5
        text = message(shop.run(**beat_settings), "test_beat_is_alive")
        assert "Beat has sent nothing for" in text
        # The heartbeat may be waiting behind a long task.
        keep_busy(shop, worker, monkeypatch)
        assert "is behind" in message(shop.run(**beat_settings), "test_beat_is_alive", "skipped")
        worker.kill9()
