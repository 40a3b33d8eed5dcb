"""Notifications of sites with typical faults, with a real Prometheus and Alertmanager.

The rules, routes and inhibitions are the shipped ones. All durations, also those of Prometheus and
Alertmanager, are scaled, and all sites share the servers. Most sites are simulated; one is the
example, and others use a real Pushgateway and a real node_exporter.

The results are written into `build/scenarios.md`. Durations of a day or more, such as those of
SmokeTestPaused, have unit tests in `prometheus/tests`.
"""

from __future__ import annotations

import faulthandler
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from smoketest.exporters import pushgateway, textfile
from tests.e2e.scenarios import (
    HEALTHY,
    MINUTE,
    REPAIRED,
    VICTIM,
    Replica,
    Scenario,
    alert,
    broken,
    served,
    simulated,
)
from tests.prometheus.test_configuration import yaml_blocks
from tests.servers.alertmanager import Alertmanager, Notification, Receiver
from tests.servers.node_exporter import NodeExporter
from tests.servers.processes import free_port, wait_for
from tests.servers.prometheus import Prometheus
from tests.servers.pushgateway import Pushgateway
from tests.servers.site import ExampleSite, gunicorn

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "prometheus"
TABLE = ROOT / "build" / "scenarios.md"
RULES = "rules/smoketest.yml"
#: Minutes after the fault at which Prometheus is restarted, and until the end of the observation.
#: Before the restart, all alerts of repaired sites are resolved.
RESTARTED, END = 29.0, 36.0

PUSHED = Scenario(
    title="A test fails on a host that pushes its metrics, and the group is then deleted",
    job="pushed",
    alerts=[alert("Failing", test=VICTIM)],
    notifications=1,
)
SECOND_FILE = Scenario(
    title="A test of the second of two sites fails that write textfiles in one directory",
    job="textfile",
    alerts=[alert("Failing", test=VICTIM, django_project="shop")],
    notifications=1,
)
EVERY = Scenario(
    title="A test with every = 600 fails, and is repaired after 8 minutes",
    job="every",
    alerts=[alert("Failing", test="orders.smoke.ledger.LedgerTest.test_every_order_has_a_line")],
    notifications=1,
)
FOREIGN_RULE = Scenario(
    title="A target without smoke tests is gone, and another rule records job:up:avg", job="node"
)
SCENARIOS = [*simulated(), PUSHED, SECOND_FILE, EVERY, FOREIGN_RULE]


class QuickPrometheus(Prometheus):
    """A server whose durations are scaled."""

    def command(self) -> list[str]:
        """Return a command with scaled defaults."""
        return [
            *super().command(),
            f"--query.lookback-delta={scaled('5m')}",
            f"--rules.alert.for-grace-period={scaled('10m')}",
            f"--rules.alert.resend-delay={scaled('1m')}",
        ]


def scaled(duration: str) -> str:
    """Return a duration with `MINUTE` seconds for each minute."""
    minutes = {"s": 1 / 60, "m": 1.0, "h": 60.0, "d": 1440.0}[duration[-1]]
    return f"{int(duration[:-1]) * minutes * MINUTE * 1000:.0f}ms"


def quick_rules(text: str) -> str:
    """Return rules with scaled durations."""

    def scale(match: re.Match[str]) -> str:
        return match[1] + (match[2] if match[2] == "1s" else scaled(match[2]))

    changed, count = re.subn(r"(for: |offset |\[)(\d+[smhd])\b", scale, text)
    assert count
    # Seconds of the clock of the sites.
    return changed.replace("600 / count", f"{10 * MINUTE} / count").replace(
        "+ 120\n", f"+ {2 * MINUTE}\n"
    )


def quick_alertmanager(url: str) -> str:
    """Return the example configuration with this receiver and scaled waits."""
    config = yaml.safe_load((SHIPPED / "alertmanager.yml").read_text())
    for wait in ("group_wait", "group_interval"):
        config["route"][wait] = scaled(config["route"][wait])
    for receiver in config["receivers"]:
        (webhook,) = receiver["webhook_configs"]
        webhook["url"] = url
    return yaml.safe_dump(config)


def never_scraped_rule(job: str) -> str:
    """Return the rule of the guide for targets that were never scraped."""
    (rules,) = yaml_blocks("groups:")
    return quick_rules(rules.replace('"shop"', f'"{job}"'))


FOREIGN_RULES = {
    "groups": [
        {
            "name": "other",
            "rules": [{"record": "job:up:avg", "expr": "avg without (instance) (up)"}],
        }
    ]
}


@dataclass
class Observation:
    """The notifications of a site."""

    scenario: Scenario
    #: Unix time of the fault.
    fault_at: float
    notifications: Sequence[Notification]

    @property
    def firing(self) -> list[Notification]:
        """Return the notifications that report a firing alert."""
        return [one for one in self.notifications if one.status == "firing"]

    @property
    def resolved(self) -> list[Notification]:
        """Return the notifications that report only resolved alerts."""
        return [one for one in self.notifications if one.status == "resolved"]

    @property
    def alerts(self) -> list[Mapping[str, Any]]:
        """Return each alert once."""
        alerts = [alert for one in self.notifications for alert in one.alerts]
        return list({str(sorted(alert["labels"].items())): alert for alert in alerts}.values())

    @property
    def row(self) -> tuple[str, ...]:
        """Return the row of the table."""
        names = sorted(alert["labels"]["alertname"] for alert in self.alerts)
        delays = [(one.received_at - self.fault_at) / MINUTE for one in self.firing]
        return (
            self.scenario.title,
            ", ".join(names) or "none",
            str(len(self.firing)),
            ", ".join(f"{delay:.1f}" for delay in delays),
            str(len(self.resolved)),
        )


def scrape(job: str, address: str, **options: object) -> dict[str, object]:
    """Return a scrape configuration."""
    return {"job_name": job, "static_configs": [{"targets": [address]}], **options}


def play(
    prometheus: Prometheus,
    site: ExampleSite,
    gateway: Pushgateway,
    node_exporter: NodeExporter,
    fault_at: float,
) -> None:
    """Cause and repair the faults that are not simulated, until the end of the observation."""
    group = pushgateway.Group(url=gateway.url, job="pushed", grouping_key={"instance": "host-1"})
    pushing = Replica(failing=broken)
    files = [Replica(project="blog"), Replica(project="shop", failing=broken)]
    ledger = "orders.smoke.ledger.LedgerTest"
    orders = "from orders.models import Order; Order.objects."
    steps = [
        (0.0, lambda: site.manage("shell", "-c", f"{orders}create(email='a@example.com')")),
        (0.0, lambda: site.manage("smoketest", ledger, check=False)),
        (8.0, lambda: site.manage("shell", "-c", f"{orders}filter(lines=None).delete()")),
        (REPAIRED, lambda: pushgateway.delete(group)),
        (RESTARTED, prometheus.restart),
    ]
    while (minute := (time.time() - fault_at) / MINUTE) < END:
        if minute < REPAIRED:
            pushgateway.push(group, pushing.collector(minute, fault_at))
        for replica in files:
            path = node_exporter.text_folder / f"{replica.project}.prom"
            collector = replica.collector(minute, fault_at)
            textfile.write(path, collector, project=replica.project)
        if steps and minute >= steps[0][0]:
            _, step = steps.pop(0)
            step()
        time.sleep(MINUTE / 4)


@pytest.fixture(scope="module")
def observed() -> Iterator[Mapping[str, Observation]]:
    """Observe all sites, and write the table."""
    faulthandler.cancel_dump_traceback_later()  # pytest prints all stacks after two minutes
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver())
        alertmanager = stack.enter_context(Alertmanager(quick_alertmanager(receiver.url)))
        gateway = stack.enter_context(Pushgateway())
        node_exporter = stack.enter_context(NodeExporter())
        site = stack.enter_context(
            ExampleSite(gunicorn(workers=2), EXAMPLE_INTERVAL=str(MINUTE), EXAMPLE_MAX_AGE="0")
        )
        fault_at = time.time() + HEALTHY * MINUTE
        port = stack.enter_context(served(SCENARIOS, fault_at))
        prometheus = stack.enter_context(
            QuickPrometheus(
                config={
                    "global": {
                        "scrape_interval": scaled("30s"),
                        "scrape_timeout": scaled("15s"),
                        "evaluation_interval": scaled("30s"),
                    },
                    "rule_files": ["rules/*.yml"],
                    "alerting": {
                        "alertmanagers": [{"static_configs": [{"targets": [alertmanager.address]}]}]
                    },
                    "scrape_configs": [
                        {
                            "job_name": "simulated",
                            "http_sd_configs": [
                                {
                                    "url": f"http://127.0.0.1:{port}/targets",
                                    "refresh_interval": "1s",
                                }
                            ],
                        },
                        scrape("every", site.address, metrics_path="/smoketest/metrics"),
                        scrape("pushed", gateway.address, honor_labels=True),
                        scrape("textfile", node_exporter.address),
                        scrape("node", f"127.0.0.1:{free_port()}"),
                    ],
                },
                files={
                    RULES: quick_rules((SHIPPED / RULES).read_text()),
                    "rules/never_scraped.yml": never_scraped_rule("wrong-token"),
                    "rules/foreign.yml": yaml.safe_dump(FOREIGN_RULES),
                },
            )
        )
        play(prometheus, site, gateway, node_exporter, fault_at)
        wait_for(
            lambda: {one.alerts[0]["labels"]["job"] for one in receiver.notifications},
            lambda jobs: {scenario.job for scenario in SCENARIOS if scenario.alerts} <= jobs,
            within=600,
            what="a notification of each site with alerts",
        )
        found = {
            scenario.job: Observation(
                scenario,
                fault_at,
                [
                    notification
                    for notification in receiver.notifications
                    if notification.alerts[0]["labels"]["job"] == scenario.job
                ],
            )
            for scenario in SCENARIOS
        }
        write_table(found.values())
        yield found


def write_table(observations: Iterable[Observation]) -> None:
    """Write the results as a Markdown table."""
    head = ("site", "alerts", "notifications", "minutes after the fault", "resolved")
    rows = [head, ("---",) * len(head), *(one.row for one in observations)]
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("".join(f"| {' | '.join(row)} |\n" for row in rows))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.job)
def test_scenario(observed: Mapping[str, Observation], scenario: Scenario) -> None:
    """Each site sends the expected alerts, and no other, in one notification for each cause."""
    found = observed[scenario.job]
    expected = [set(labels.items()) for labels in scenario.alerts]
    assert len(found.alerts) == len(expected), found.row
    for labels in expected:
        (_,) = (alert for alert in found.alerts if labels <= alert["labels"].items())
    assert len(found.firing) == scenario.notifications, found.row
    assert bool(found.resolved) is (bool(expected) and scenario.is_resolved), found.row
    for one in found.alerts:
        assert scenario.description in one["annotations"].get("description", "")
