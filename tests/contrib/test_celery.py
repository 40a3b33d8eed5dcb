"""Tests of smoketest.contrib.celery without a broker: apps, queues, settings and skipped tests."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from smoketest.results import Report
from smoketest.runner.discovery import Suite
from smoketest.runner.loader import find
from smoketest.runner.supervisor import run
from smoketest.store.abandoned import LocallyAbandoned
from tests.conftest import EVERYTHING, Apps, options
from tests.servers.services import missing

APP = "smoketest.contrib.celery"


def require_celery() -> None:
    if find_spec("celery") is None:
        missing("celery is not installed: pip install celery")


@pytest.fixture
def shop(apps: Apps) -> Iterator[str]:
    """A package with a Celery app that is found by the name of the package."""
    require_celery()
    apps.add(
        name="appshop",
        files={
            "celery.py": "from celery import Celery\n"
            "app = Celery('shop', set_as_current=False, broker='memory://')\n"
        },
    )
    sys.modules.pop(f"{APP}.smoke", None)
    yield "appshop"
    sys.modules.pop(f"{APP}.smoke", None)


def discover(**settings: Any) -> Suite:
    with override_settings(INSTALLED_APPS=["smoketest", APP], **settings):
        return find(EVERYTHING, options())


def run_site(**settings: Any) -> Report:
    with override_settings(INSTALLED_APPS=["smoketest", APP], **settings):
        suite = find(EVERYTHING, options())
        assert suite.classes
        return run(suite, EVERYTHING, options(), abandoned=LocallyAbandoned(), carried={})


def classes(suite: Suite) -> list[str]:
    assert suite.collection_errors == ()
    return [smoke_class.id.removeprefix(f"{APP}.smoke.") for smoke_class in suite.classes]


def configure(shop: str, **values: Any) -> None:
    import_module(f"{shop}.celery").app.conf.update(values)


def test_queues__of_the_app(shop: str) -> None:
    """The queues are the default queue, or those that the app declares."""
    assert classes(discover(SMOKETEST_CELERY_APP=shop)) == ["CeleryQueueTest"]
    sys.modules.pop(f"{APP}.smoke")
    del sys.modules[f"{shop}.celery"], sys.modules[shop]
    queues = {"high-priority": {"exchange": "high"}, "mail": {"exchange": "mail"}}
    configure(shop, task_queues=queues)
    found = classes(discover(SMOKETEST_CELERY_APP=f"{shop}.celery:app"))
    assert found == ["HighPriorityQueueTest", "MailQueueTest"]


def test_queues__of_the_setting(shop: str) -> None:
    """Beat has a test if the setting is enabled."""
    found = classes(
        discover(
            SMOKETEST_CELERY_APP=shop,
            SMOKETEST_CELERY_QUEUES=["mail"],
            SMOKETEST_CELERY_BEAT=True,
        )
    )
    assert found == ["MailQueueTest", "CeleryBeatTest"]


@pytest.mark.parametrize("path", ["{}.celery:nothing", "{}.missing:app", "nowhere"])
def test_app__not_found(shop: str, path: str) -> None:
    """A missing app is a collection error whose message names the setting."""
    path = path.format(shop)
    (error,) = discover(SMOKETEST_CELERY_APP=path).collection_errors
    assert error.exception == ImproperlyConfigured.__name__
    assert f"SMOKETEST_CELERY_APP is '{path}'" in error.message


def test_app__not_imported_by_the_package(shop: str, tmp_path: Path) -> None:
    """The app is found even if the package of the site does not import it."""
    (tmp_path / "apps" / shop / "settings.py").write_text(
        f"SECRET_KEY = 'not-secret'\nINSTALLED_APPS = ['smoketest', '{APP}']\n"
    )
    code = (
        "import django; django.setup()\n"
        "from smoketest.contrib.celery.targets import site_app\n"
        "assert site_app().main == 'shop'\n"
    )
    environment = {
        "PYTHONPATH": ":".join([str(tmp_path / "apps"), str(Path(__file__).parents[2])]),
        "DJANGO_SETTINGS_MODULE": f"{shop}.settings",
    }
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"task_always_eager": True}, "task_always_eager is True"),
        ({"worker_enable_remote_control": False}, "worker_enable_remote_control is False"),
    ],
)
def test_skipped__reason(shop: str, values: dict[str, Any], reason: str) -> None:
    """All tests are skipped without workers or without remote control."""
    configure(shop, **values)
    report = run_site(SMOKETEST_CELERY_APP=shop, SMOKETEST_CELERY_BEAT=True)
    assert {str(result.outcome) for result in report.results} == {"skipped"}
    assert all(result.message.startswith(reason) for result in report.results)


def test_skipped__broker_without_remote_control(shop: str, tmp_path: Path) -> None:
    """All tests are skipped if the broker has no remote control, such as Amazon SQS."""
    kind = import_module("kombu.transport.filesystem").Transport
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "implements", kind.implements.extend(exchange_type={"direct"}))
        folders = {"data_folder_in": str(tmp_path), "data_folder_out": str(tmp_path)}
        configure(shop, broker_url="filesystem://", broker_transport_options=folders)
        report = run_site(SMOKETEST_CELERY_APP=shop)
    reasons = {result.message for result in report.results}
    assert reasons == {"this kind of broker does not support remote control (filesystem)"}
    assert {str(result.outcome) for result in report.results} == {"skipped"}


def test_heartbeat__scheduled_if_enabled(shop: str) -> None:
    """The entry is added only if the setting is enabled; its tasks expire."""
    add_heartbeat = import_module(f"{APP}.tasks").add_heartbeat
    app = import_module(f"{shop}.celery").app
    add_heartbeat(app)
    assert app.conf.beat_schedule == {}
    with override_settings(SMOKETEST_CELERY_BEAT=True, SMOKETEST_CELERY_BEAT_INTERVAL=20):
        add_heartbeat(app)
    entry = app.conf.beat_schedule["smoketest heartbeat"]
    assert (entry["task"], entry["args"]) == ("smoketest.contrib.celery.ping", ("heartbeat",))
    assert entry["schedule"] == 20
    assert entry["options"] == {"queue": "celery"}
    assert app.tasks[entry["task"]].expires == 300


def test_notes__limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker discards the oldest notes."""
    require_celery()
    remote = import_module(f"{APP}.remote")
    monkeypatch.setattr(remote, "_notes", type(remote._notes)())
    monkeypatch.setattr(remote, "LIMIT", 2)
    for key in ("a", "b", "a", "c"):
        remote.note(None, key)
    assert set(remote.notes(None, ["a", "b", "c", "d"])["ages"]) == {"a", "c"}


def test_records__unreadable_file(tmp_path: Path) -> None:
    """A truncated file, or one of another release, is ignored."""
    records = import_module(f"{APP}.records")
    with override_settings(SMOKETEST_STATE_DIR=str(tmp_path)):
        record = records.Record(key="k", sent_at=5.0)
        records.save("queue x", record)
        assert records.load("queue x") == record
        assert records.load("queue y") == records.Record()
        (path,) = (path for path in tmp_path.iterdir() if path.stat().st_size)
        for text in ("", "{", "[]", '{"key": "k", "other": 1}'):
            path.write_text(text)
            assert records.load("queue x") == records.Record()


def test_records__without_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The records are kept in the memory of the process."""
    records = import_module(f"{APP}.records")
    monkeypatch.setattr(records, "_memory", {})
    with override_settings(SMOKETEST_STATE_DIR="/proc/nowhere"):
        records.save("queue x", records.Record(key="k"))
        assert records.load("queue x") == records.Record(key="k")
        assert records.load("queue y") == records.Record()


@pytest.mark.parametrize("is_stopped", [True, False])
def test_stopped_worker__one_lost_task_accepted(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_stopped: bool
) -> None:
    """The note of a stopped worker may be lost, but the next task must return."""
    records, rounds = import_module(f"{APP}.records"), import_module(f"{APP}.rounds")
    monkeypatch.setattr(rounds, "WAIT", 0)
    app = import_module(f"{shop}.celery").app
    record = records.Record(key="k", workers=["a"])
    waited = []
    with override_settings(SMOKETEST_STATE_DIR=str(tmp_path)):
        for _ in range(3):
            now = time.time()
            records.save(
                "queue x",
                replace(record, sent_at=now - 70, waiting_since=now - 500, looked_at=now - 10),
            )
            workers = ["b"] if is_stopped else ["a"]
            trip = rounds.make_round_trip(app, "x", workers, "queue x", valid=60, within=0.1)
            waited.append(round(trip.waiting, -1))
            record = replace(records.load("queue x"), workers=["a"])
    assert waited == ([0, 500, 500] if is_stopped else [500, 500, 500])


def test_beat__heartbeat_in_the_future(shop: str, tmp_path: Path) -> None:
    """A heartbeat in the future does not hide a stopped beat."""
    records, testing = import_module(f"{APP}.records"), import_module(f"{APP}.cases")
    test = testing.BeatTest("test_beat_is_alive")
    settings = {"SMOKETEST_STATE_DIR": str(tmp_path), "SMOKETEST_CELERY_REPLY_TIMEOUT": 0.1}
    with pytest.MonkeyPatch.context() as patch, override_settings(**settings):
        patch.setattr(testing.BeatTest, "app", import_module(f"{shop}.celery").app, raising=False)
        for ahead, is_heard in ((-5, True), (500, False)):
            records.save("heartbeat", records.Record(returned_at=time.time() + ahead))
            last_heartbeat, _ = test._get_last_heartbeat(["a"], "celery")
            assert (last_heartbeat > 0) is is_heard
            assert records.load("heartbeat").returned_at == last_heartbeat


def ids(**settings: Any) -> list[str | None]:
    with override_settings(INSTALLED_APPS=["smoketest", APP], **settings):
        found = [message.id for message in run_checks(tags=["smoketest"]) if message.id]
    return [name for name in found if name[len("smoketest.") + 1 :].startswith("14")]


def test_system_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each invalid value has its own error."""
    monkeypatch.setattr(f"{APP}.checks.find_spec", lambda _: True)
    wrong: dict[str, tuple[Any, ...]] = {
        "smoketest.E141 SMOKETEST_CELERY_APP": (None, 5),
        "smoketest.E142 SMOKETEST_CELERY_QUEUES": ("mail", [], [5], [""]),
        "smoketest.E143 SMOKETEST_CELERY_REPLY_TIMEOUT": (0, None, "5"),
        "smoketest.E144 SMOKETEST_CELERY_MAX_LATENCY": (0, None, "5"),
        "smoketest.E145 SMOKETEST_CELERY_BEAT": (1, None),
        "smoketest.E146 SMOKETEST_CELERY_BEAT_INTERVAL": (0, None),
        "smoketest.E147 SMOKETEST_CELERY_BEAT_MAX_AGE": (0, None),
    }
    assert ids() == []
    assert ids(SMOKETEST_CELERY_QUEUES=("mail",), SMOKETEST_CELERY_APP="shop") == []
    for check, values in wrong.items():
        identity, name = check.split()
        for value in values:
            assert ids(**{name: value}) == [identity]
    assert ids(SMOKETEST_CELERY_BEAT_INTERVAL=300) == ["smoketest.E149"]
    monkeypatch.setattr(f"{APP}.checks.find_spec", lambda _: None)
    assert ids() == ["smoketest.E148"]


def test_startup__does_not_import_celery() -> None:
    """The app does not import Celery before discovery."""
    code = (
        "import sys, django\n"
        "from django.conf import settings\n"
        f"settings.configure(INSTALLED_APPS=['smoketest', {APP!r}])\n"
        "django.setup()\n"
        "assert not {'celery', 'kombu'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
