"""``manage.py smoketest``: run the smoke tests now or regularly, and hand on the results."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from smoketest import assembly
from smoketest.coordinator import GRACE, Answer, BusyError, NothingSelectedError, PausedError
from smoketest.durations import parse_duration
from smoketest.exporters import pushgateway, server, textfile
from smoketest.exporters.errors import ExportError
from smoketest.formats import text
from smoketest.moments import utc
from smoketest.selection import Selection
from smoketest.state import StateError
from smoketest.store import Pause, StoreError
from smoketest.views import NO_TESTS

JOB = "smoketest"
EXIT_USAGE = 2
EXIT_NOTHING = 3
EXIT_INTERRUPTED = 130
PASSWORD_VARIABLE = "SMOKETEST_PUSHGATEWAY_PASSWORD"  # noqa: S105 - the name of a variable


class Command(BaseCommand):
    help = (
        "Runs the smoke tests of the site, each in a database transaction that is rolled back, and"
        " prints the report. Exits with 0 if they pass and with 1 if they fail."
    )
    requires_system_checks = ["smoketest"]  # noqa: RUF012 - as Django declares it

    def add_arguments(self, parser: CommandParser) -> None:
        export = parser.add_argument_group("metrics for Prometheus, by other ways than a scrape")
        export.add_argument(
            "--textfile", type=Path, metavar="PATH", help="write a .prom file for node_exporter"
        )
        export.add_argument("--pushgateway", metavar="URL", help="push to a Pushgateway")
        export.add_argument("--job", default=JOB, help="job label of a push (default: %(default)s)")
        export.add_argument(
            "--grouping",
            action="append",
            type=_key_and_value,
            metavar="KEY=VALUE",
            help="label of a push besides the job, repeatable (default: instance=HOSTNAME)",
        )
        export.add_argument(
            "--pushgateway-user",
            default="",
            metavar="NAME",
            help=f"user of a push; ${PASSWORD_VARIABLE} holds the password",
        )
        regular = parser.add_argument_group("regular runs, where there is no scheduler")
        regular.add_argument(
            "--every", type=_duration, metavar="DURATION", help="run again and again, e.g. 60s"
        )
        regular.add_argument(
            "--serve",
            type=_address,
            metavar="[HOST:]PORT",
            help="with --every: serve /metrics (on every address if no HOST is given)",
        )
        regular.add_argument("--certificate", type=Path, metavar="FILE", help="serve over TLS")
        regular.add_argument("--key", type=Path, metavar="FILE", help="key of the certificate")
        pause = parser.add_argument_group("pause all runs on this host")
        pause.add_argument("--pause", type=_duration, metavar="DURATION", help="for so long")
        pause.add_argument("--reason", default="", help="why, for those who see the results")
        pause.add_argument("--resume", action="store_true", help="end the pause")

    def handle(self, *args: Any, **options: Any) -> None:
        _refuse_wrong_combinations(options)
        try:
            if options["pause"]:
                self._pause(options["pause"], options["reason"])
            elif options["resume"]:
                self._resume()
            elif options["every"]:
                self._run_regularly(options)
            else:
                self._run_once(options)
        except KeyboardInterrupt:
            raise SystemExit(EXIT_INTERRUPTED) from None

    # One run

    def _run_once(self, options: dict[str, Any]) -> None:
        answer = self._run(respect_every=False)
        self.stdout.write(text.render(answer.report, pause=answer.pause))
        self.stderr.write(f"Results are in {assembly.state().store.location}")
        try:
            self._export(options)
        except ExportError as error:
            raise CommandError(str(error), returncode=EXIT_USAGE) from error
        if not answer.report.passed:
            raise SystemExit(1)

    def _run(self, *, respect_every: bool) -> Answer:
        coordinator = assembly.coordinator()
        wait = coordinator.options.run_timeout + GRACE
        try:
            return coordinator.run(Selection(), wait=wait, respect_every=respect_every)
        except NothingSelectedError:
            raise CommandError(NO_TESTS, returncode=EXIT_NOTHING) from None
        except PausedError as error:
            msg = (
                f"The runs are paused until {utc(error.pause.until)} ({error.pause.reason}), and"
                " no result is stored. End the pause with --resume."
            )
            raise CommandError(msg) from None
        except StateError as error:
            raise CommandError(str(error), returncode=EXIT_USAGE) from None
        except BusyError:
            msg = f"Another run did not end within {wait:g} s, so nothing was run. Try again later."
            raise CommandError(msg) from None

    def _export(self, options: dict[str, Any]) -> None:
        if options["textfile"]:
            textfile.write(options["textfile"], assembly.collector())
        if options["pushgateway"]:
            pushgateway.push(
                options["pushgateway"],
                assembly.collector(),
                job=options["job"],
                grouping_key=dict(options["grouping"] or [("instance", socket.gethostname())]),
                username=options["pushgateway_user"],
                password=os.environ.get(PASSWORD_VARIABLE, ""),
            )

    # Regular runs

    def _run_regularly(self, options: dict[str, Any]) -> None:
        """Until SIGTERM, which ends it with 0; whatever goes wrong in one round may heal."""
        signal.signal(signal.SIGTERM, _terminate)
        try:
            with self._serving(options):
                while True:
                    began = time.monotonic()
                    self._run_one_round(options)
                    time.sleep(max(0.0, options["every"] - (time.monotonic() - began)))
        except ExportError as error:
            raise CommandError(str(error), returncode=EXIT_USAGE) from error
        except _TerminatedError:
            return

    @contextmanager
    def _serving(self, options: dict[str, Any]) -> Iterator[None]:
        if not options["serve"]:
            yield
            return
        host, port = options["serve"]
        collector = assembly.collector()
        with server.serving(host, port, collector, options["certificate"], options["key"]):
            self.stderr.write(f"Serving /metrics on {host}:{port}")
            yield

    def _run_one_round(self, options: dict[str, Any]) -> None:
        try:
            answer = self._run(respect_every=True)
            report, pause = answer.report, answer.pause
            line = f"{utc(report.finished_at)} {report.status}, {len(report.results)} tests in"
            self.stdout.write(f"{line} {report.duration:.3f} s")
            if pause:
                self.stdout.write(f"paused until {utc(pause.until)}: {pause.reason}")
            self.stdout.flush()
            self._export(options)
        except (CommandError, ExportError) as error:
            self.stderr.write(str(error))

    # Pause

    def _pause(self, seconds: float, reason: str) -> None:
        pause = Pause(until=time.time() + seconds, reason=reason)
        self._write(lambda: assembly.state().store.pause(pause))
        self.stdout.write(f"No smoke test runs on this host until {utc(pause.until)}.")

    def _resume(self) -> None:
        self._write(assembly.state().store.resume)
        self.stdout.write("Smoke tests run again on this host.")

    def _write(self, write: Callable[[], None]) -> None:
        store = assembly.state().store
        if not store.is_shared:
            msg = "There is no shared results store, so a pause would reach no other process."
            raise CommandError(f"{msg} Set SMOKETEST_STATE_DIR.", returncode=EXIT_USAGE)
        try:
            write()
        except StoreError as error:
            raise CommandError(str(error), returncode=EXIT_USAGE) from error


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM. As an interrupt, it is no test's own doing, even in the thread of a test."""


def _terminate(*_: object) -> None:
    raise _TerminatedError


def _refuse_wrong_combinations(options: dict[str, Any]) -> None:
    def refuse(message: str) -> None:
        raise CommandError(message, returncode=EXIT_USAGE)

    runs = options["every"] or options["textfile"] or options["pushgateway"]
    if (options["pause"] or options["resume"]) and runs:
        refuse("--pause and --resume run nothing; give them alone.")
    of_a_push = options["grouping"] or options["pushgateway_user"] or options["job"] != JOB
    if of_a_push and not options["pushgateway"]:
        refuse("--job, --grouping and --pushgateway-user go with --pushgateway.")
    if options["serve"] and not options["every"]:
        refuse("--serve needs --every, which says how often to run: --every 60s --serve 9100")
    if bool(options["certificate"]) != bool(options["key"]):
        refuse("--certificate and --key go together.")
    if options["certificate"] and not options["serve"]:
        refuse("--certificate and --key go with --serve.")
    if options["reason"] and not options["pause"]:
        refuse("--reason goes with --pause.")
    if options["pause"] and not options["reason"]:
        refuse('--pause needs a --reason, which everybody will see: --reason "moving the database"')
    if options["pause"] and options["resume"]:
        refuse("--pause or --resume, not both.")


def _duration(value: str) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _key_and_value(value: str) -> tuple[str, str]:
    key, separator, content = value.partition("=")
    if not (key and separator and content):
        msg = f"{value!r} is not KEY=VALUE, such as instance=worker-1"
        raise argparse.ArgumentTypeError(msg)
    return key, content


def _address(value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        msg = f"{value!r} is no [HOST:]PORT, such as 9100 or 127.0.0.1:9100"
        raise argparse.ArgumentTypeError(msg)
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - as exporters do
