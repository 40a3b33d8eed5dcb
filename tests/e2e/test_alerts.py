"""Alerting from a failing test to the notification, with real servers.

The rules, routes and inhibitions are the shipped ones. To save time, the minutes of ``for`` and
``keep_firing_for`` become seconds, scrapes and evaluations happen every second, tests run every
two seconds, and Alertmanager groups for a second. Addresses are replaced. No expression is
changed.
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

TOKEN = "a-token-of-the-shop-0123456789"

#: Seconds in which a second notification would arrive: two evaluation and grouping intervals.
SETTLE_SECONDS = {"firing": 2.0, "resolved": 0.5}


class ProtectedSite(ExampleSite):
    """Example site with a token and a public URL."""

    def prepare(self) -> None:
        settings = (
            "from shop.settings import *\n"
            f'SMOKETEST_PUBLIC_URL = "http://{self.address}"\n'
            f'SMOKETEST_TOKENS = ["{TOKEN}"]\n'
        )
        (self.folder / "protected_site.py").write_text(settings)
        super().prepare()

    def environment(self) -> dict[str, str]:
        variables = super().environment()
        return variables | {
            "PYTHONPATH": f"{self.folder}:{variables['PYTHONPATH']}",
            "DJANGO_SETTINGS_MODULE": "protected_site",
        }

    def replace_workers(self) -> None:
        """Kill the workers one by one, so that scrapes keep succeeding."""
        for pid in self.workers():
            self._replace_worker(pid)

    def _replace_worker(self, pid: int) -> None:
        before = set(self.workers())
        os.kill(pid, signal.SIGKILL)
        (new,) = wait_for(lambda: set(self.workers()) - before, what="a new worker")
        wait_for(lambda: f"worker <{new}> answered" in self.log, what="its first response")


@dataclass
class Stack:
    """Servers of an alerting pipeline, from the site to the receiver of notifications."""

    site: ExampleSite
    prometheus: Prometheus
    receiver: Receiver

    def new_notifications(self, last: Callable[[Notification], object]) -> list[Notification]:
        """Return new notifications, up to the one that `last` accepts and a short time after it."""
        inbox = self.receiver.notifications
        seen = wait_for(
            lambda: list(inbox),
            lambda seen: any(map(last, seen)),
            within=180,  # some rules wait for 15 s
            what="a notification",
        )
        time.sleep(SETTLE_SECONDS[seen[-1].status])
        notifications, inbox[:] = list(inbox), []
        return notifications

    def notification(self, status: str) -> Notification:
        """Return the next notification, and check that there is only one."""
        notifications = self.new_notifications(lambda notification: notification.status == status)
        assert [notification.status for notification in notifications] == [status], notifications
        return notifications[0]


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    """Start all servers."""
    with (
        ProtectedSite(
            gunicorn(workers=2), EXAMPLE_INTERVAL="2", EXAMPLE_SLOW_SECONDS="1.1"
        ) as site,
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
    """Provide the servers, and reset the site afterwards."""
    yield running
    running.site.repair()
    running.receiver.notifications.clear()


def quick_rules(text: str) -> str:
    """Return the rules with each minute of waiting replaced by a second."""
    changed, count = re.subn(r"^( +(?:keep_firing_)?for: \d+)m$", r"\1s", text, flags=re.MULTILINE)
    before, after = (
        [rule["expr"] for rule in yaml.safe_load(rules)["groups"][0]["rules"]]
        for rules in (text, changed)
    )
    assert before == after
    assert count > 10
    return changed


def quick_prometheus(site: str, alertmanager: str) -> dict[str, Any]:
    """Return the example configuration with these addresses and intervals of a second."""
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
    """Return the example configuration with this receiver and short intervals."""
    config = yaml.safe_load((SHIPPED / "alertmanager.yml").read_text())
    config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    for receiver in config["receivers"]:
        (webhook,) = receiver["webhook_configs"]
        webhook["url"] = f"{url}/{receiver['name']}"
    return yaml.safe_dump(config)


def test_failing__one_notification(stack: Stack) -> None:
    """A failing test sends one notification with all details, and another when it is resolved."""
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
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert annotations["summary"] == f"Smoke test {test} of shop is failing."
    # The test declares its own runbook.
    assert annotations["runbook_url"] == "https://wiki.example.com/runbooks/cache"
    page = f"http://{stack.site.address}/smoketest/test/{test}/"
    assert annotations["description"].endswith(f"Failing on: {stack.site.address}. See {page}")
    success = f'smoketest_test_last_success_timestamp_seconds{{test="{test}"}}'
    (last_passed,) = stack.prometheus.query(success)
    passed_at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(last_passed.value))
    assert annotations["description"].startswith(f"It last passed at {passed_at}")
    # The link leads to the failing test.
    path = page.removeprefix(f"http://{stack.site.address}")
    answer = stack.site.get(path, {"Authorization": f"Bearer {TOKEN}"})
    assert answer.status == 200
    assert test in answer.text
    assert "Failure details" in answer.text

    stack.site.repair()
    assert stack.notification("resolved").names == {"SmokeTestFailing"}


def test_slow__warnings(stack: Stack) -> None:
    """Each slow test sends one warning to the chat receiver, and no other alert fires.

    The site may become slow in the middle of a run, so the warnings may not arrive together.
    """
    stack.site.break_("slow")
    slow = {
        "catalog.smoke.CatalogTest.test_list_page_shows_the_books",
        "catalog.smoke.CatalogTest.test_search_finds_a_title",
        "catalog.smoke.CatalogTest.test_search_finds_an_author",
    }
    notifications = stack.new_notifications(
        lambda notification: len(notification.alerts) == len(slow)
    )
    assert {(notification.receiver, notification.status) for notification in notifications} == {
        ("chat", "firing")
    }
    assert {alert["labels"]["test"] for alert in notifications[-1].alerts} == slow
    for alert in notifications[-1].alerts:
        assert alert["labels"]["alertname"] == "SmokeTestSlow"
        assert alert["labels"]["severity"] == "warning"
        assert "its slow threshold is 1s" in alert["annotations"]["description"]
        assert alert["annotations"]["runbook_url"] == "https://wiki.example.com/runbooks/catalog"
    stack.site.repair()
    notifications += stack.new_notifications(lambda notification: notification.status == "resolved")
    assert {name for notification in notifications for name in notification.names} == {
        "SmokeTestSlow"
    }


def test_hanging__one_notification(stack: Stack) -> None:
    """A hanging test sends only SmokeTestFailing, although it is also stale, slow and abandoned."""
    stack.site.break_("hang")
    notification = stack.notification("firing")
    assert notification.receiver == "pager"
    (alert,) = notification.alerts
    assert alert["labels"]["alertname"] == "SmokeTestFailing"
    assert alert["labels"]["test"] == "orders.smoke.carrier.CarrierTest.test_carrier_is_open"
    assert alert["labels"]["maintainer"] == "warehouse"
    # Longer than the maximum age and the `for` of SmokeTestStale.
    stack.prometheus.wait_for(
        "time() - smoketest_test_last_success_timestamp_seconds"
        f'{{test="{alert["labels"]["test"]}"}} > 12'
    )
    assert stack.prometheus.query("smoketest_abandoned_tests")[0].value == 1
    assert stack.receiver.notifications == []

    stack.site.repair()
    stack.site.replace_workers()  # hanging threads cannot be stopped
    assert stack.notification("resolved").names == {"SmokeTestFailing"}


def test_site_down__one_notification(stack: Stack) -> None:
    """A site that is down sends only one notification."""
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


def test_rules__no_evaluation_errors(stack: Stack) -> None:
    """No rule failed to evaluate during the tests above, for instance due to duplicate series."""
    assert {rule.get("lastError", "") for rule in stack.prometheus.rules()} == {""}
    assert "Evaluating rule failed" not in stack.prometheus.log


def test_runbooks__queries(stack: Stack) -> None:
    """Prometheus can evaluate every expression in the runbooks."""
    blocks = re.findall(r"^```promql\n(.*?)^```", RUNBOOKS_TEXT, re.MULTILINE | re.DOTALL)
    expressions = "".join(blocks).splitlines()
    assert len(expressions) > 10
    for expression in expressions:
        stack.prometheus.query(expression)


# Silences and inhibitions

#: Alerts, each with the alerts that it inhibits.
INHIBITED_BY = {
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
OF_TESTS = {"SmokeTestFailing", "SmokeTestFlapping", "SmokeTestSlow", "SmokeTestStale"}


def labels(alert: str, job: str, severity: str = "critical", test: str = "a") -> Labels:
    """Return the labels that the rules set for an alert."""
    of_test = {"test": test} if alert in OF_TESTS else {}
    return {"alertname": alert, "job": job, "severity": severity, **of_test}


def test_inhibitions() -> None:
    """Each alert inhibits only the alerts that it explains.

    Each pair of alerts has its own job. The last jobs show that alerts of other jobs, tests and
    severities are not inhibited.
    """
    with Alertmanager(SHIPPED / "alertmanager.yml") as alertmanager:
        expected = set()
        alerts = []
        for cause, inhibited_alerts in INHIBITED_BY.items():
            # Pairs, so that no third alert of the job can inhibit one of them.
            for other in INHIBITED_BY.keys() - {cause}:
                job = f"{cause}-{other}"
                alerts += [labels(cause, job), labels(other, job)]
                if other in inhibited_alerts:
                    expected.add((job, other))
                elif cause in INHIBITED_BY[other]:
                    expected.add((job, cause))
        alerts += [
            *(labels("SmokeTestFailing", "tests"), labels("SmokeTestSlow", "tests", test="b")),
            *(labels("SmokeTestTargetGone", "one", "warning"), labels("SmokeTestStale", "one")),
            *(labels("SmokeTestFailing", "mild", "warning"), labels("SmokeTestAbandoned", "mild")),
        ]
        alertmanager.fire(alerts)
        inhibited = wait_for(
            lambda: {
                (alert["labels"]["job"], alert["labels"]["alertname"])
                for alert in alertmanager.alerts()
                if alert["status"]["inhibitedBy"]
            },
            lambda found: found == expected,
            what="the inhibitions",
        )
        assert len(inhibited) == 2 * sum(map(len, INHIBITED_BY.values()))
        assert len(alertmanager.alerts()) == len({tuple(sorted(f.items())) for f in alerts})


def test_runbooks__silences() -> None:
    """The `amtool` command of each runbook silences only the alert of its section."""
    commands = re.findall(r"`(amtool silence add .*)`", RUNBOOKS_TEXT)
    test = "orders.smoke.OrderTest.test_order"
    silenced: set[str] = set()
    with Alertmanager(SHIPPED / "alertmanager.yml") as alertmanager:
        alertmanager.fire(labels(alert, "shop", test=test) for alert in INHIBITED_BY)
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
    assert silenced == INHIBITED_BY.keys()
