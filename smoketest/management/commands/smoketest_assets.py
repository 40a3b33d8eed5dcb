"""``manage.py smoketest_assets``: write files for Prometheus, Alertmanager and Grafana."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import NoReverseMatch, reverse

from smoketest.cli.assets import ChangedFilesError, Site, collect, write


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
            help="scrape interval of Prometheus (default: %(default)s)",
        )
        parser.add_argument(
            "--operator",
            action="store_true",
            help="write a ServiceMonitor and a PrometheusRule for the Prometheus Operator instead"
            " of configuration for Prometheus and Alertmanager",
        )
        parser.add_argument("--force", action="store_true", help="overwrite modified files")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["folder"]
        site = Site(job=options["job"], interval=options["interval"], metrics_path=_metrics_path())
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
    if not re.fullmatch(r"[1-9][0-9]*(ms|s|m|h)", text):
        msg = f"{text!r} is not a valid interval; use a number and ms, s, m or h, such as 30s"
        raise argparse.ArgumentTypeError(msg)
    return text
