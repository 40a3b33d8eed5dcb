"""Notifications about a broken site, with a real site, Prometheus and Alertmanager.

The rules, routes and inhibitions are the shipped ones, with other addresses. Time is scaled: a
minute in the rules is a second, scrapes and evaluations happen every second, runs every two
seconds, and Alertmanager waits for a second instead of minutes.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.alertmanager import Alertmanager, Labels, Notification, Receiver
from tests.servers.processes import wait_for
from tests.servers.prometheus import Prometheus
from tests.servers.services import require
from tests.servers.site import ExampleSite, gunicorn

pytestmark = pytest.mark.e2e

SHIPPED = Path(__file__).resolve().parents[2] / "prometheus"
RULES = "rules/smoketest.yml"
RUNBOOKS = "https://github.com/ccnmtl/django-smoketest/blob/main/docs/runbooks.md"
RUNBOOKS_TEXT = (SHIPPED.parent / "docs" / "runbooks.md").read_text()

TOKEN = "a-token-of-the-shop-for-prometheus"

#: Seconds within which a second notification would arrive: two evaluations and groupings.
SETTLED = {"firing": 2.0, "resolved": 0.5}


class GuardedShop(ExampleSite):
    """The example site with a token and a public address."""

    def prepare(self) -> None:
        """Write the settings."""
        settings = (
            "from shop.settings import *\n"
            f'SMOKETEST_PUBLIC_URL = "http://{self.address}"\n'
            f'SMOKETEST_TOKENS = ["{TOKEN}"]\n'
        )
        (self.folder / "guarded_shop.py").write_text(settings)
        super().prepare()

    def environment(self) -> dict[str, str]:
        """Return the variables of the example, with these settings."""
        variables = super().environment()
        return variables | {
            "PYTHONPATH": f"{self.folder}:{variables['PYTHONPATH']}",
            "DJANGO_SETTINGS_MODULE": "guarded_shop",
        }

    def replace_workers(self) -> None:
        """Kill the workers one by one, so that the site keeps answering scrapes."""
        for pid in self.workers():
            self._replace_worker(pid)

    def _replace_worker(self, pid: int) -> None:
        before = set(self.workers())
        os.kill(pid, signal.SIGKILL)
        (new,) = wait_for(lambda: set(self.workers()) - before, what="a new worker")
        wait_for(lambda: f"worker <{new}> answered" in self.log, what="its first answer")


@dataclass
class Stack:
    """The servers between a test and a notification."""

    site: ExampleSite
    prometheus: Prometheus
    receiver: Receiver

    def news(self, last: Callable[[Notification], object]) -> list[Notification]:
        """Return the notifications since the last call, until a moment after one that matches."""
        inbox = self.receiver.notifications
        seen = wait_for(
            lambda: list(inbox),
            lambda seen: any(map(last, seen)),
            within=180,  # some rules wait for 15 s
            what="a notification",
        )
        time.sleep(SETTLED[seen[-1].status])
        news, inbox[:] = list(inbox), []
        return news

    def notification(self, status: str) -> Notification:
        """Return the next notification. Fail if others arrive with it."""
        news = self.news(lambda notification: notification.status == status)
        assert [notification.status for notification in news] == [status], news
        return news[0]


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    """Start all servers once."""
    with (
        GuardedShop(gunicorn(workers=2), EXAMPLE_INTERVAL="2", EXAMPLE_SLOW_SECONDS="1.1") as site,
        Receiver() as receiver,
        Alertmanager(quick_alertmanager(receiver.url)) as alertmanager,
        Prometheus(
            config=quick_prometheus(site.address, alertmanager.address),
            files={
                RULES: quick_rules((SHIPPED / RULES).read_text()),
                "smoketest.token": TOKEN,
            },
        ) as prometheus,
    ):
        prometheus.wait_for("smoketest_last_run_success == 1")
        yield Stack(site, prometheus, receiver)


@pytest.fixture
def stack(running: Stack) -> Iterator[Stack]:
    """Return the servers, and restore the site after each test."""
    yield running
    running.site.repair()
    running.receiver.notifications.clear()


def quick_rules(text: str) -> str:
    """Return the rules with a second for each minute."""
    changed, count = re.subn(r"((?:for: |offset |\[)\d+)m\b", r"\1s", text)
    assert count > 30
    for minutes, seconds in (
        ("[1h]", "[60s]"),
        ("600 / count", "10 / count"),
        ("+ 120\n", "+ 2\n"),
    ):
        assert minutes in changed
        changed = changed.replace(minutes, seconds)
    return changed


def quick_prometheus(site: str, alertmanager: str) -> dict[str, Any]:
    """Return the example configuration with these addresses and an interval of one second."""
    config: dict[str, Any] = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
    config["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [site]
    return config


def quick_alertmanager(url: str) -> str:
    """Return the example configuration with this receiver and short waits."""
    config = yaml.safe_load((SHIPPED / "alertmanager.yml").read_text())
    config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    for receiver in config["receivers"]:
        (webhook,) = receiver["webhook_configs"]
        webhook["url"] = f"{url}/{receiver['name']}"
    return yaml.safe_dump(config)


def test_failure__calls_once_and_resolves(stack: Stack) -> None:
    """A failing test sends one notification with all annotations, and resolves once fixed."""
    stack.site.break_("cache")
    notification = stack.notification("firing")
    assert notification.receiver == "pager"
    (alert,) = notification.alerts
    test = "shop.smoke.CacheTest.test_cache_keeps_a_value"
    assert alert["labels"] == {
        "alertname": "SmokeTestFailing",
        "job": "shop",
        "django_app": "shop",
        "test": test,
        "severity": "critical",
        "maintainer": "platform",
    }
    annotations = alert["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url", "dashboard_url"}
    dashboard = "http://localhost:3000/d/smoketest-test"
    assert annotations["dashboard_url"] == f"{dashboard}?var-job=shop&var-test={test}"
    assert annotations["summary"] == f"Smoke test {test} of shop is failing."
    # the test declares one
    assert annotations["runbook_url"] == "https://wiki.example.com/runbooks/cache"
    page = f"http://{stack.site.address}/smoketest/test/{test}/"
    assert annotations["description"].endswith(f"Failing on: {stack.site.address}. See {page}")
    success = f'smoketest_test_last_success_timestamp_seconds{{test="{test}"}}'
    (last_passed,) = stack.prometheus.query(success)
    passed_at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(last_passed.value))
    assert annotations["description"].startswith(f"It last passed at {passed_at}")
    # The link shows the failure.
    path = page.removeprefix(f"http://{stack.site.address}")
    answer = stack.site.get(path, {"Authorization": f"Bearer {TOKEN}"})
    assert answer.status == 200
    assert test in answer.text
    assert "Failure details" in answer.text

    stack.site.repair()
    assert stack.notification("resolved").names == {"SmokeTestFailing"}


def test_slow__warns(stack: Stack) -> None:
    """Each slow test fires one warning, which goes to the chat.

    The tests may become slow in the middle of a run, so they need not fire and resolve together.
    """
    stack.site.break_("slow")
    slow = {
        "catalog.smoke.CatalogTest.test_list_page_shows_the_books",
        "catalog.smoke.CatalogTest.test_search_finds_a_title",
        "catalog.smoke.CatalogTest.test_search_finds_an_author",
    }
    news = stack.news(lambda notification: len(notification.alerts) == len(slow))
    assert {(notification.receiver, notification.status) for notification in news} == {
        ("chat", "firing")
    }
    assert {alert["labels"]["test"] for alert in news[-1].alerts} == slow
    for alert in news[-1].alerts:
        assert alert["labels"]["alertname"] == "SmokeTestSlow"
        assert alert["labels"]["severity"] == "warning"
        assert "its slow threshold is 1s" in alert["annotations"]["description"]
        assert alert["annotations"]["runbook_url"] == "https://wiki.example.com/runbooks/catalog"
    stack.site.repair()
    news += stack.news(lambda notification: notification.status == "resolved")
    assert {name for notification in news for name in notification.names} == {"SmokeTestSlow"}


def test_hang__calls_once(stack: Stack) -> None:
    """A hanging test fires one alert, although it is also slow, stale and abandoned."""
    stack.site.break_("hang")
    notification = stack.notification("firing")
    assert notification.receiver == "pager"
    (alert,) = notification.alerts
    assert alert["labels"]["alertname"] == "SmokeTestFailing"
    assert alert["labels"]["test"] == "orders.smoke.carrier.CarrierTest.test_carrier_is_open"
    assert alert["labels"]["maintainer"] == "warehouse"
    # Longer than its maximum age and the wait of SmokeTestStale.
    stack.prometheus.wait_for(
        "time() - smoketest_test_last_success_timestamp_seconds"
        f'{{test="{alert["labels"]["test"]}"}} > 12'
    )
    assert stack.prometheus.query("smoketest_abandoned_tests")[0].value == 1
    assert stack.receiver.notifications == []

    stack.site.repair()
    stack.site.replace_workers()  # a thread that hangs cannot be ended
    assert stack.notification("resolved").names == {"SmokeTestFailing"}


def test_site_stops__calls_once(stack: Stack) -> None:
    """A site that is gone sends one notification."""
    stack.site.stop()
    notification = stack.notification("firing")
    assert notification.receiver == "pager"
    (alert,) = notification.alerts
    assert alert["labels"] == {
        "alertname": "SmokeTestTargetGone",
        "job": "shop",
        "severity": "critical",
    }
    assert f"Failing on: {stack.site.address}." in alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOKS}#smoketesttargetgone"
    (firing,) = stack.prometheus.query('ALERTS{alertstate="firing"}')
    assert firing.labels["alertname"] == "SmokeTestTargetGone"

    stack.site.start()
    assert stack.notification("resolved").names == {"SmokeTestTargetGone"}


def test_rules__were_evaluated_without_an_error(stack: Stack) -> None:
    """No evaluation of a rule failed during the tests above."""
    assert {rule.get("lastError", "") for rule in stack.prometheus.rules()} == {""}
    assert "Evaluating rule failed" not in stack.prometheus.log


def test_runbooks__queries_are_answered(stack: Stack) -> None:
    """Prometheus evaluates every expression in the runbooks."""
    blocks = re.findall(r"^```promql\n(.*?)^```", RUNBOOKS_TEXT, re.MULTILINE | re.DOTALL)
    expressions = "".join(blocks).splitlines()
    assert len(expressions) > 10
    for expression in expressions:
        stack.prometheus.query(expression)


# Silences and inhibitions

#: Alerts that each alert explains.
EXPLAINED = {
    "SmokeTestTargetGone": {
        "SmokeTestFailing",
        "SmokeTestFlapping",
        "SmokeTestSlow",
        "SmokeTestStale",
        "SmokeTestImportError",
        "SmokeTestRunsStopped",
        "SmokeTestNeverRan",
        "SmokeTestStoreDown",
        "SmokeTestAbandoned",
        "SmokeTestPaused",
    },
    "SmokeTestStoreDown": {
        "SmokeTestRunsStopped",
        "SmokeTestNeverRan",
        "SmokeTestStale",
        "SmokeTestFlapping",
    },
    "SmokeTestRunsStopped": {"SmokeTestStale"},
    "SmokeTestNeverRan": {"SmokeTestStale"},
    "SmokeTestImportError": {"SmokeTestStale"},
    "SmokeTestFailing": {
        "SmokeTestFlapping",
        "SmokeTestSlow",
        "SmokeTestStale",
        "SmokeTestAbandoned",
    },
    "SmokeTestFlapping": set(),
    "SmokeTestSlow": set(),
    "SmokeTestStale": set(),
    "SmokeTestAbandoned": set(),
    "SmokeTestPaused": set(),
}
ENVIRONMENT = ("cluster", "namespace", "environment", "django_project")
OF_TESTS = {"SmokeTestFailing", "SmokeTestFlapping", "SmokeTestSlow", "SmokeTestStale"}


def labels(alert: str, job: str, severity: str = "critical", test: str = "a") -> Labels:
    """Return the labels of an alert from the rules."""
    of_test = {"test": test} if alert in OF_TESTS else {}
    return {"alertname": alert, "job": job, "severity": severity, **of_test}


def test_inhibitions__are_those_that_explain() -> None:
    """Each alert inhibits exactly the alerts that it explains.

    Each pair of alerts has its own job. The last ones differ in test, severity, site or
    environment, and are not inhibited.
    """
    with Alertmanager(SHIPPED / "alertmanager.yml") as alertmanager:
        expected = set()
        fired = []
        for cause, explained in EXPLAINED.items():
            # pairs, so that nothing else in the job explains anything
            for other in EXPLAINED.keys() - {cause}:
                job = f"{cause}-{other}"
                fired += [labels(cause, job), labels(other, job)]
                if other in explained:
                    expected.add((job, other))
                elif cause in EXPLAINED[other]:
                    expected.add((job, cause))
        fired += [
            *(labels("SmokeTestFailing", "tests"), labels("SmokeTestSlow", "tests", test="b")),
            *(labels("SmokeTestTargetGone", "one", "warning"), labels("SmokeTestStale", "one")),
            *(labels("SmokeTestFailing", "mild", "warning"), labels("SmokeTestAbandoned", "mild")),
        ]
        for number, label in enumerate(ENVIRONMENT):
            for cause, explained in EXPLAINED.items():
                for other in explained:
                    job = f"{label}-{number}-{cause}-{other}"
                    for alert, value in ((cause, "blog"), (other, "shop")):
                        fired.append({**labels(alert, job), label: value})
        alertmanager.fire(fired)
        inhibited = wait_for(
            lambda: {
                (alert["labels"]["job"], alert["labels"]["alertname"])
                for alert in alertmanager.alerts()
                if alert["status"]["inhibitedBy"]
            },
            lambda found: found == expected,
            what="the inhibitions",
        )
        assert len(inhibited) == 2 * sum(map(len, EXPLAINED.values()))
        assert len(alertmanager.alerts()) == len({tuple(sorted(f.items())) for f in fired})


def test_runbooks__silences_silence() -> None:
    """The command in each section of the runbooks only silences the alert of the section."""
    commands = re.findall(r"`(amtool silence add .*)`", RUNBOOKS_TEXT)
    test = "orders.smoke.OrderTest.test_order"
    silenced: set[str] = set()
    with Alertmanager(SHIPPED / "alertmanager.yml") as alertmanager:
        alertmanager.fire(labels(alert, "shop", test=test) for alert in EXPLAINED)
        for command in commands:
            _, *arguments = shlex.split(command)
            url = f"--alertmanager.url=http://{alertmanager.address}"
            subprocess.run(
                [require("amtool"), *arguments, url, "--author=on-call"],
                check=True,
                capture_output=True,
            )
            now = {
                alert["labels"]["alertname"]
                for alert in alertmanager.alerts()
                if alert["status"]["silencedBy"]
            }
            (new,) = now - silenced
            assert f"alertname={new}" in arguments
            silenced = now
    assert silenced == EXPLAINED.keys()
