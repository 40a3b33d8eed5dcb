"""Get a report for ``manage.py smoketest``: from a run in this process, or from a deployed site."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from django.core.management.base import CommandError

from smoketest import services
from smoketest.cli.arguments import Options, read_token
from smoketest.cli.exits import Exit
from smoketest.cli.remote import NothingMatchesError, RefusedError, RemoteSite
from smoketest.cli.stability import NoAnswerError
from smoketest.coordination.coordinator import (
    GRACE,
    Answer,
    BusyError,
    Coordinator,
    NothingSelectedError,
    PausedError,
)
from smoketest.coordination.suggestions import NO_TESTS
from smoketest.results import Listener, Selection, is_dotted_prefix, utc
from smoketest.runner.discovery import Suite
from smoketest.store import Pause, StoreError
from smoketest.store.directory import StateError

#: Function that runs the tests within a number of seconds; ``math.inf`` applies only the options.
#: It raises `CommandError`, or `smoketest.cli.stability.NoAnswerError` if a retry may help.
Ask = Callable[[float], Answer]

#: Default of `--run-timeout` with `--url`, in seconds.
ANSWER_WITHIN = 60.0


def remote(url: str, options: Options) -> Ask:
    """Return a function that makes the site at `url` run the tests."""
    site = RemoteSite(url=url, token=read_token(options))
    within = options.run_timeout or ANSWER_WITHIN

    def ask(seconds: float) -> Answer:
        timeout = min(within, seconds)
        try:
            return site.run(options.selection, failfast=options.failfast, timeout=timeout)
        except RefusedError as error:
            raise CommandError(str(error), returncode=Exit.USAGE) from None
        except NothingMatchesError as error:
            raise CommandError(str(error), returncode=Exit.NOTHING) from None

    return ask


class LocalRunner:
    """Find and run the selected tests in this process."""

    def __init__(self, options: Options, listener: Listener) -> None:
        self._coordinator = _coordinator(options)
        self._options = options
        self._listener = listener
        self._selection = self._select()

    def find(self) -> Suite:
        """Return the selected tests. Raise `CommandError`."""
        return self._find(self._selection)

    def run(self, seconds: float = math.inf) -> Answer:
        """Run the tests within the run timeout, or within `seconds` if that is shorter."""
        wait = min(self._coordinator.options.run_timeout + GRACE, seconds)
        try:
            answer = self._coordinator.run(
                self._selection,
                wait=wait,
                within=seconds,
                failfast=self._options.failfast,
                interval=self._options.every,
                record=not self._options.no_store,
                listener=self._listener,
            )
        except NothingSelectedError as error:
            raise _nothing(error, self._selection) from None
        except PausedError as error:
            raise NoAnswerError(_paused(error.pause, "and no result is stored")) from None
        except StateError as error:
            raise CommandError(str(error), returncode=Exit.USAGE) from None
        except BusyError:
            msg = f"Another run did not end within {wait:g} s, so nothing was run. Try again later."
            raise NoAnswerError(msg, is_timeout=True) from None
        if answer.pause and self._options.until_stable:
            raise NoAnswerError(_paused(answer.pause, "so nothing was run"))
        return answer

    def _find(self, selection: Selection) -> Suite:
        try:
            return self._coordinator.find(selection)
        except NothingSelectedError as error:
            raise _nothing(error, selection) from None

    def _select(self) -> Selection:
        """Return the selection; with ``--failed``, only tests that failed when they last ran."""
        selection = self._options.selection
        if not self._options.failed:
            return selection
        suite = self._find(selection)
        ids = [*(one.id for one in suite.collection_errors), *(d.id for d in suite.declarations)]
        failed = self._failed()
        names = [one for one in ids if any(is_dotted_prefix(name, one) for name in failed)]
        if not names:
            msg = f"No test failed when it last ran ({selection}). Leave out --failed to run them."
            raise CommandError(msg, returncode=Exit.NOTHING)
        return replace(selection, names=tuple(names))

    def _failed(self) -> list[str]:
        """Return the names of tests, classes and modules that failed when they last ran."""
        try:
            results = self._coordinator.store.latest_results().values()
        except StoreError as error:
            raise CommandError(str(error), returncode=Exit.USAGE) from None
        return [
            result.id.rpartition(".")[0] if result.declaration.is_fixture else result.id
            for result in results
            if result.is_problem
        ]


def _nothing(error: NothingSelectedError, selection: Selection) -> CommandError:
    if selection.is_everything:
        message = NO_TESTS
    else:
        message = " ".join(map(str, error.unknown)) or f"No smoke test matches {selection}."
        message += " To see all tests, run manage.py smoketest --list."
    return CommandError(message, returncode=Exit.NOTHING)


def _coordinator(options: Options) -> Coordinator:
    """Return the coordinator with the changes of the options."""
    coordinator = services.coordinator()
    names = ("workers", "timeout", "run_timeout")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    return replace(coordinator, options=replace(coordinator.options, **given))


def _paused(pause: Pause, consequence: str) -> str:
    return (
        f"Runs are paused until {utc(pause.until)} ({pause.reason}), {consequence}. End the pause"
        " with --resume."
    )
