"""``manage.py smoketest_assets``: write files for Prometheus, Alertmanager and Grafana."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import NoReverseMatch, reverse

from smoketest.cli.assets import REPLICA_LABELS, ChangedFilesError, Site, collect, write
from smoketest.conf import InvalidSettingError, conf
from smoketest.metrics import PROJECT_LABEL, TEST_LABELS
from smoketest.validators import is_label_value

_INTERVAL = re.compile(r"[1-9][0-9]*(ms|s|m|h)")
#: Seconds. Prometheus looks back 5 minutes for a sample, so one of two scrapes may fail.
LONGEST_INTERVAL = 120
#: Labels that identify a site or a test.
_IDENTITY = frozenset({
    *TEST_LABELS, PROJECT_LABEL, "job", "cluster", "namespace", "environment",
    "outcome", "result", "url", "runbook_url", "alertname", "alertstate",
})  # fmt: skip


class Command(BaseCommand):
    help = (
        "Writes alert rules, dashboards and example configuration for Prometheus, Alertmanager and"
        " Grafana to a directory. Files that you have modified are not overwritten."
    )
    requires_system_checks = []  # noqa: RUF012 - as Django declares it

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="directory to write to")
        parser.add_argument(
            "--job",
            type=_job,
            default="django",
            help="job name of the site in Prometheus (default: %(default)s)",
        )
        parser.add_argument(
            "--interval",
            type=_interval,
            default="30s",
            metavar="DURATION",
            help="scrape interval of Prometheus, at most 2m (default: %(default)s)",
        )
        parser.add_argument(
            "--replica-labels",
            type=_replica_labels,
            default=REPLICA_LABELS,
            metavar="LABEL,...",
            help="target labels that distinguish the replicas of a site, by which the rules"
            f" aggregate (default: {','.join(REPLICA_LABELS)})",
        )
        parser.add_argument(
            "--operator",
            action="store_true",
            help="write resources for the Prometheus Operator and the sidecar of Grafana instead of"
            " configuration for Prometheus and Alertmanager",
        )
        parser.add_argument(
            "--label",
            type=_label,
            action="append",
            metavar="KEY=VALUE",
            help="with --operator: label of the resources, such as release=prometheus (repeatable)",
        )
        parser.add_argument("--force", action="store_true", help="overwrite modified files")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["folder"]
        if options["operator"] and not is_label_value(options["job"]):
            msg = (
                f"--job {options['job']!r} is not a valid label value in Kubernetes; use at most 63"
                " letters, digits and _ . -, with a letter or digit at both ends"
            )
            raise CommandError(msg)
        if options["label"] and not options["operator"]:
            msg = "--label requires --operator."
            raise CommandError(msg)
        self._warn_of_rare_scrapes(options["interval"])
        site = Site(
            job=options["job"],
            interval=options["interval"],
            metrics_path=_metrics_path(),
            replica_labels=options["replica_labels"],
            labels=dict(options["label"] or ()),
        )
        files = collect(site, operator=options["operator"])
        try:
            written = write(files, folder, force=options["force"])
        except ChangedFilesError as error:
            paths = "\n".join(f"  {path}" for path in error.paths)
            msg = (
                "Nothing was written, because these files were modified or not created by this"
                f" command:\n{paths}\nMove them, choose another directory, or overwrite them with"
                " --force."
            )
            raise CommandError(msg) from None
        except (OSError, ValueError) as error:
            msg = f"{folder}: {error}. Choose a directory that you can write to."
            raise CommandError(msg) from error
        for path in written.new:
            self.stdout.write(f"wrote {path}")
        for path in written.kept:
            self.stdout.write(f"kept {path}, which you have modified")
        if others := len(files) - len(written.new) - len(written.kept):
            self.stdout.write(f"{others} files are up to date.")

    def _warn_of_rare_scrapes(self, scrape_interval: str) -> None:
        """Warn if scrapes cannot start runs as often as the settings say."""
        try:
            interval = conf.interval if conf.run_on_scrape else None
        except InvalidSettingError as error:
            raise CommandError(str(error)) from None
        seconds = _seconds(scrape_interval)
        if interval is not None and seconds > interval:
            self.stderr.write(
                f"Warning: SMOKETEST_INTERVAL is {interval:g} s, but scrapes start the runs, so the"
                f" tests would run every {seconds:g} s. Set SMOKETEST_INTERVAL to {seconds:g}"
                f" or more, or --interval to {interval:g}s or less."
            )


def _metrics_path() -> str:
    """Return the path of the metrics; if the site does not include our URLs, that of the docs."""
    try:
        return reverse("smoketest:metrics")
    except NoReverseMatch:
        return "/smoketest/metrics"


def _job(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_./:-]{1,100}", text):
        msg = f"{text!r} is not a valid job name; use letters, digits and _ . / : -"
        raise argparse.ArgumentTypeError(msg)
    return text


def _interval(text: str) -> str:
    if not _INTERVAL.fullmatch(text):
        msg = f"{text!r} is not a valid interval; use a number and ms, s, m or h, such as 30s"
        raise argparse.ArgumentTypeError(msg)
    if _seconds(text) > LONGEST_INTERVAL:
        msg = (
            f"{text} is too long; use at most 2m. Prometheus ignores samples that are older than 5"
            " minutes, so metrics would be missing between scrapes, and alerts would start over."
            " To run the tests less often, set SMOKETEST_INTERVAL to a longer time instead: a"
            " scrape starts a run only if one is due."
        )
        raise argparse.ArgumentTypeError(msg)
    return text


def _seconds(interval: str) -> float:
    number, unit = re.findall(r"\d+|[a-z]+", interval)
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]


def _replica_labels(text: str) -> tuple[str, ...]:
    labels = tuple(dict.fromkeys(label.strip() for label in text.split(",")))
    for label in labels:
        # https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", label) or label.startswith("__"):
            msg = f"{label!r} is not a valid label name; use letters, digits and _, such as host"
            raise argparse.ArgumentTypeError(msg)
        if label in _IDENTITY:
            msg = f"{label!r} identifies a test or a site, so it cannot distinguish its replicas"
            raise argparse.ArgumentTypeError(msg)
    if "instance" not in labels:
        msg = (
            "the list must contain instance, which is different for each target; the list replaces"
            f" the default {','.join(REPLICA_LABELS)}"
        )
        raise argparse.ArgumentTypeError(msg)
    return labels


def _label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    prefix, slash, name = key.rpartition("/")
    is_valid_prefix = not slash or re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", prefix)
    if not (separator and is_valid_prefix and is_label_value(name)):
        msg = f"{text!r} is not KEY=VALUE with a valid label key, such as release=prometheus"
        raise argparse.ArgumentTypeError(msg)
    if value and not is_label_value(value):
        msg = f"{value!r} is not a valid label value in Kubernetes; use letters, digits and _ . -"
        raise argparse.ArgumentTypeError(msg)
    return key, value
