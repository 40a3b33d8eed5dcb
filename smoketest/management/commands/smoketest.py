"""``manage.py smoketest``: run the smoke tests once or regularly, and export the results."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    SystemCheckError,
)
from django.db import close_old_connections

from smoketest import services
from smoketest.cli import asking, listing, output
from smoketest.cli.arguments import (
    DEADLINE,
    DESCRIPTION,
    EPILOG,
    PASSWORD_VARIABLE,
    HelpFormatter,
    Options,
    Parser,
    add_arguments,
    parse_options,
)
from smoketest.cli.exits import Exit
from smoketest.cli.showing import Screen, write
from smoketest.cli.stability import NoAnswerError, Round, until_stable
from smoketest.conf import conf
from smoketest.coordination.coordinator import Answer, problem_logger, store_logger
from smoketest.exporters import ExportError, pushgateway, server, textfile
from smoketest.metrics import PROJECT_LABEL
from smoketest.results import Report, StopReason, ignore_events, utc
from smoketest.runner.supervisor import RunInterrupted
from smoketest.store import Pause, StoreError


class Command(BaseCommand):
    help = DESCRIPTION
    requires_system_checks = ["smoketest"]  # noqa: RUF012 - as Django declares it
    #: Django sets it if the command was started from the command line.
    _called_from_command_line = False

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs |= {"allow_abbrev": False, "epilog": EPILOG, "formatter_class": HelpFormatter}
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.__class__ = Parser  # Django's method always creates a CommandParser
        (traceback,) = (action for action in parser._actions if action.dest == "traceback")
        traceback.help = "print the tracebacks of failed tests, and of errors of the command"
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        add_arguments(parser)

    def execute(self, *args: Any, **options: Any) -> str | None:
        if options.get("url"):  # the local settings are not those of the site
            options["skip_checks"] = True
        return super().execute(*args, **options)

    def check(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().check(*args, **kwargs)
        except SystemCheckError as error:
            error.returncode = Exit.USAGE
            raise

    def handle(self, *args: Any, **options: Any) -> None:
        parsed = parse_options(options)
        # The command reports failures of tests and of the store. Without a handler, Python would
        # also print them to standard error.
        for logger in (problem_logger, store_logger):
            logger.addHandler(logging.NullHandler())
        try:
            with self._handling_sigterm():
                self._do(parsed)
        except KeyboardInterrupt as interrupt:
            raise SystemExit(int(_interrupted_by(interrupt))) from None
        except (ExportError, output.OutputError) as error:
            raise CommandError(str(error), returncode=Exit.USAGE) from error

    def _do(self, options: Options) -> None:
        if options.pause:
            self._pause(options.pause, options.reason)
        elif options.resume:
            self._resume()
        elif options.every:
            self._run_regularly(options, options.every)
        elif options.list:
            self._list(options)
        else:
            self._run_once(options)

    @contextmanager
    def _handling_sigterm(self) -> Iterator[None]:
        """Handle SIGTERM like Ctrl-C if the command was started from the command line."""
        if not self._called_from_command_line:
            yield
            return
        previous = signal.signal(signal.SIGTERM, _terminate)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)

    # A single run, or a stability check

    def _run_once(self, options: Options) -> None:
        if options.output:
            output.check(options.output)
        screen = Screen(self.stdout, self.stderr, self.style, options)
        try:
            with screen.progress() as listener:
                if options.url:
                    ask = asking.remote(options.url, options)
                else:
                    local = asking.LocalRunner(options, listener)
                    for notice in local.notices():
                        screen.message(notice)
                    ask = local.run
                answer, exit_code = self._answer(ask, options, screen)
        except RunInterrupted as interrupt:
            screen.show(Answer(report=interrupt.report, age=0.0))
            raise
        except KeyboardInterrupt:
            screen.message("Interrupted.", is_ok=False)
            raise
        if answer is not None:
            screen.show(answer)
        if not (options.url or options.no_store):
            self._report_storage(screen, options)
            self._export(options)
        if exit_code is not Exit.PASSED:
            raise SystemExit(int(exit_code))

    def _answer(
        self, ask: asking.Ask, options: Options, screen: Screen
    ) -> tuple[Answer | None, Exit]:
        """Return the latest answer and the exit code."""
        if stable := options.until_stable:
            deadline = options.deadline or DEADLINE
            stability = until_stable(
                ask,
                stable=stable,
                deadline=deadline,
                on_round=lambda one: screen.message(_round_line(one, stable), is_ok=_is_ok(one)),
            )
            if stability.is_stable:
                return stability.answer, Exit.PASSED
            screen.message(
                f"Not stable: the critical tests can no longer pass for {stable:g} s before the"
                f" deadline of {deadline:g} s.",
                is_ok=False,
            )
            return stability.answer, Exit.TIMED_OUT
        try:
            answer = ask(math.inf)
        except NoAnswerError as error:
            exit_code = Exit.TIMED_OUT if error.is_timeout else Exit.FAILED
            raise CommandError(str(error), returncode=exit_code) from None
        if answer.pause:
            screen.message(
                "Nothing was run; this is the latest result. To end the pause, use --resume."
            )
            return answer, Exit.FAILED
        if answer.report.stop_reason is StopReason.DEADLINE:
            return answer, Exit.TIMED_OUT
        return answer, Exit.PASSED if answer.report.passed else Exit.FAILED

    def _report_storage(self, screen: Screen, options: Options) -> None:
        store = services.state().store
        if store.write_error is None:
            screen.message(f"Results are stored in {store.location}")
        elif options.skip_checks:
            screen.message(f"Results were not stored. {store.write_error}", is_ok=False)
        else:  # a system check has reported the reason
            screen.message("Results were not stored.", is_ok=False)

    def _list(self, options: Options) -> None:
        suite = asking.LocalRunner(options, ignore_events).find()
        names = (listing.as_json if options.format == "json" else listing.as_text)(suite)
        if options.output:
            output.write(options.output, names)
        else:
            write(self.stdout, names)
        for sentence in suite.overlooked:
            self.stderr.write(f"Warning: {sentence}")
        for error in suite.collection_errors:
            self.stderr.write(f"{error.id} {error.message}")
        if suite.collection_errors:
            raise SystemExit(int(Exit.FAILED))

    def _export(self, options: Options) -> None:
        if options.textfile:
            textfile.write(options.textfile, services.collector(), project=conf.project)
        if options.pushgateway:
            pushgateway.push(_group(options.pushgateway, options), services.collector())

    # Regular runs

    def _run_regularly(self, options: Options, every: float) -> None:
        """Run until SIGTERM, which is a normal exit. Errors of a round do not end the command."""
        try:
            with self._serving(options):
                while True:
                    started = time.monotonic()
                    self._run_one_round(options)
                    close_old_connections()  # receivers of run_finished may have used them
                    time.sleep(max(0.0, every - (time.monotonic() - started)))
        except KeyboardInterrupt as interrupt:
            if options.pushgateway and options.delete_on_exit:
                pushgateway.delete(_group(options.pushgateway, options))
            if _interrupted_by(interrupt) is not Exit.TERMINATED:
                raise

    @contextmanager
    def _serving(self, options: Options) -> Iterator[None]:
        if not options.serve:
            yield
            return
        host, port = options.serve
        collector = services.collector()
        with server.serving(host, port, collector, options.certificate, options.key):
            self.stderr.write(f"Serving /metrics on {server.format_address(host, port)}")
            yield

    def _run_one_round(self, options: Options) -> None:
        try:
            answer = asking.LocalRunner(options, ignore_events).run()
            report, pause = answer.report, answer.pause
            self.stdout.write(_summary(report))
            if pause:
                self.stdout.write(f"paused until {utc(pause.until)}: {pause.reason}")
            self.stdout.flush()
            self._export(options)
        except (CommandError, NoAnswerError, ExportError) as error:
            self.stderr.write(str(error))

    # Pause

    def _pause(self, seconds: float, reason: str) -> None:
        pause = Pause(until=time.time() + seconds, reason=reason)
        self._write(lambda: services.state().store.pause(pause))
        self.stdout.write(f"Runs are paused on this host until {utc(pause.until)}.")

    def _resume(self) -> None:
        self._write(services.state().store.resume)
        self.stdout.write("Runs are no longer paused on this host.")

    def _write(self, write: Callable[[], None]) -> None:
        store = services.state().store
        if not store.is_shared:
            msg = "There is no shared results store, so other processes would ignore the pause."
            raise CommandError(f"{msg} Set SMOKETEST_STATE_DIR.", returncode=Exit.USAGE)
        try:
            write()
        except StoreError as error:
            raise CommandError(str(error), returncode=Exit.USAGE) from error


def _group(url: str, options: Options) -> pushgateway.Group:
    """Return the group of the metrics of this site on the Pushgateway at `url`."""
    grouping_key = dict(options.grouping or [("instance", socket.gethostname())])
    if project := conf.project:  # the groups of several sites on a host differ
        grouping_key.setdefault(PROJECT_LABEL, project)
    return pushgateway.Group(
        url=url,
        job=options.job,
        grouping_key=grouping_key,
        username=options.pushgateway_user,
        password=os.environ.get(PASSWORD_VARIABLE, ""),
    )


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM. As a `KeyboardInterrupt`, it ends the run and not only the current test."""


def _terminate(*_: object) -> None:
    raise _TerminatedError


def _interrupted_by(interrupt: KeyboardInterrupt) -> Exit:
    signals = (interrupt, interrupt.__cause__)
    is_terminated = any(isinstance(one, _TerminatedError) for one in signals)
    return Exit.TERMINATED if is_terminated else Exit.INTERRUPTED


def _summary(report: Report) -> str:
    line = f"{utc(report.finished_at)} {report.status}, {len(report.results)} tests in"
    return f"{line} {report.duration:.3f} s"


def _is_ok(one: Round) -> bool:
    return one.answer is not None and one.answer.report.passed


def _round_line(one: Round, stable: float) -> str:
    """Format the result of a round of a stability check."""
    if one.answer is None:
        return f"{utc(time.time())} no result: {one.problem}"
    report = one.answer.report
    if report.passed:
        return f"{_summary(report)}; passing for {one.passing_for:.0f} of {stable:g} s"
    critical = [result.id for result in report.problems if result.is_critical]
    if not critical:
        return f"{_summary(report)}; the deadline was reached before all tests had run"
    return f"{_summary(report)}; {len(critical)} critical: {', '.join(critical[:3])}"
