"""How ``manage.py smoketest`` gets a report: by a run here, or from a deployed site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.core.management.base import CommandError

from smoketest import assembly
from smoketest.command import arguments
from smoketest.command.exits import Exit
from smoketest.coordinator import (
    GRACE,
    Answer,
    BusyError,
    Coordinator,
    NothingSelectedError,
    PausedError,
)
from smoketest.discovery import Suite
from smoketest.events import Listener
from smoketest.gate import NoAnswerError
from smoketest.moments import utc
from smoketest.remote import NothingMatchesError, RefusedError, RemoteSite
from smoketest.results import Result
from smoketest.selection import Selection, is_dotted_prefix
from smoketest.state import StateError
from smoketest.store import Pause, StoreError
from smoketest.views import NO_TESTS

#: Asks for a run that takes so many seconds at most. Raises `CommandError`, or
#: `smoketest.gate.NoAnswerError` where asking again may help.
Ask = Callable[[float], Answer]


def there(options: dict[str, Any]) -> Ask:
    """Of the site at an address."""
    site = RemoteSite(url=options["url"], token=arguments.token(options))

    def ask(seconds: float) -> Answer:
        try:
            return site.run(_named(options), failfast=options["failfast"], timeout=seconds)
        except RefusedError as error:
            raise CommandError(str(error), returncode=Exit.USAGE) from None
        except NothingMatchesError as error:
            raise CommandError(str(error), returncode=Exit.NOTHING) from None

    return ask


class Here:
    """Runs the tests in this process."""

    def __init__(
        self, options: dict[str, Any], listener: Listener, *, is_regular: bool = False
    ) -> None:
        self._coordinator = _coordinator(options)
        self._options = options
        self._listener = listener
        self._is_regular = is_regular
        self._selection = self._select()

    def find(self) -> Suite:
        """The tests that would run. Raises `CommandError`."""
        try:
            return self._coordinator.find(self._selection)
        except NothingSelectedError as error:
            raise self._nothing(error) from None

    def run(self, seconds: float | None = None) -> Answer:
        """Within the time of a run; within `seconds` if that is less."""
        coordinator = self._coordinator
        if seconds is not None:
            run_timeout = min(coordinator.options.run_timeout, max(seconds, 0.001))
            options = replace(coordinator.options, run_timeout=run_timeout)
            coordinator = replace(coordinator, options=options)
        wait = coordinator.options.run_timeout + (GRACE if seconds is None else 0.0)
        try:
            answer = coordinator.run(
                self._selection,
                wait=wait,
                failfast=self._options["failfast"],
                respect_every=self._is_regular,
                record=not self._options["no_store"],
                listener=self._listener,
            )
        except NothingSelectedError as error:
            raise self._nothing(error) from None
        except PausedError as error:
            raise NoAnswerError(_paused(error.pause, "and no result is stored")) from None
        except StateError as error:
            raise CommandError(str(error), returncode=Exit.USAGE) from None
        except BusyError:
            msg = f"Another run did not end within {wait:g} s, so nothing was run. Try again later."
            raise NoAnswerError(msg, is_timeout=True) from None
        if answer.pause and self._options["until_stable"]:
            raise NoAnswerError(_paused(answer.pause, "so nothing was run"))
        return answer

    def _select(self) -> Selection:
        """What the options name; with ``--failed`` those of it that failed when they last ran."""
        selection = _named(self._options)
        if not self._options["failed"]:
            return selection
        failed = [result.id for result in self._failed() if _may_be(result, selection)]
        if not failed:
            msg = f"Of {selection}, none failed when it last ran. Leave out --failed to run them."
            raise CommandError(msg, returncode=Exit.NOTHING)
        return replace(selection, names=tuple(failed))

    def _failed(self) -> list[Result]:
        """The latest results that tell of a problem, of what the site still has."""
        try:
            results = self._coordinator.store.latest_results().values()
        except StoreError as error:
            raise CommandError(str(error), returncode=Exit.USAGE) from None
        problems = [result for result in results if result.is_problem]
        suite = self._coordinator.find(Selection())
        ids = [*(one.id for one in suite.collection_errors), *(d.id for d in suite.declarations)]
        return [
            result for result in problems if any(is_dotted_prefix(result.id, one) for one in ids)
        ]

    def _nothing(self, error: NothingSelectedError) -> CommandError:
        if self._selection.is_everything:
            message = NO_TESTS
        else:
            message = (
                " ".join(map(str, error.unknown)) or f"No smoke test matches {self._selection}."
            )
            message += " manage.py smoketest --list names them all."
        return CommandError(message, returncode=Exit.NOTHING)


def _named(options: dict[str, Any]) -> Selection:
    return Selection(
        names=tuple(dict.fromkeys(options["names"])),
        tags=tuple(dict.fromkeys(options["tag"])),
        excluded_tags=tuple(dict.fromkeys(options["exclude_tag"])),
    )


def _may_be(result: Result, selection: Selection) -> bool:
    return result.declaration.is_selected_by(selection)


def _coordinator(options: dict[str, Any]) -> Coordinator:
    """That of the site, with what the options change."""
    coordinator = assembly.coordinator()
    names = ("workers", "timeout", "run_timeout")
    changes = {name: options[name] for name in names if options[name] is not None}
    return replace(coordinator, options=replace(coordinator.options, **changes))


def _paused(pause: Pause, consequence: str) -> str:
    return (
        f"The runs are paused until {utc(pause.until)} ({pause.reason}), {consequence}. End the"
        " pause with --resume."
    )
