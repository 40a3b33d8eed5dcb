"""Get a report for ``manage.py smoketest``: from a run in this process, or from a deployed site."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from django.core.management.base import CommandError

from smoketest import services
from smoketest.cli.arguments import Options, read_token
from smoketest.cli.exits import Exit
from smoketest.cli.remote import NothingMatchesError, RefusedError, RemoteSite
from smoketest.cli.stability import NoAnswerError
from smoketest.coordination.coordinator import (
    EVERYTHING,
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
from smoketest.validators import did_you_mean

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

    def notices(self) -> Iterator[str]:
        """Yield a sentence for each excluded tag that no test has."""
        if not self._options.exclude_tag:
            return
        tags = {tag for one in self._find(EVERYTHING).declarations for tag in one.tags}
        for tag in self._options.exclude_tag:
            if tag not in tags:
                yield f"No smoke test has the tag {tag}. {did_you_mean(tag, tags)}".rstrip()

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
        """Return the selection of names and tags, narrowed by ``-k`` and ``--failed``."""
        selection = self._complete(self._options.selection)
        if patterns := self._options.pattern:
            globs = [pattern if "*" in pattern else f"*{pattern}*" for pattern in patterns]
            ids = [one for one in self._ids(selection) if any(fnmatchcase(one, g) for g in globs)]
            within = "" if selection.is_everything else f" ({selection})"
            selection = _narrow(
                selection, ids, f"No test matches -k {' or '.join(patterns)}{within}."
            )
        if self._options.failed:
            failed = self._failed()
            ids = [
                one
                for one in self._ids(selection)
                if any(is_dotted_prefix(name, one) for name in failed)
            ]
            selection = _narrow(
                selection,
                ids,
                f"No test failed when it last ran ({selection}). Leave out --failed to run them.",
            )
        return selection

    def _ids(self, selection: Selection) -> list[str]:
        suite = self._find(selection)
        return [*(one.id for one in suite.collection_errors), *(d.id for d in suite.declarations)]

    def _complete(self, selection: Selection) -> Selection:
        """Replace names of classes and methods by their ids, if there is a single one."""
        known: set[str] = set()
        if selection.names:
            for one in self._ids(EVERYTHING):
                known |= {one, one.rpartition(".")[0]}
        names = []
        for name in selection.names:
            found = sorted(one for one in known if one.endswith(f".{name}"))
            is_id = any(is_dotted_prefix(name, one) for one in known)
            if len(found) > 1 and not is_id:
                msg = f"{name} is not unique; use one of {', '.join(found)}."
                raise CommandError(msg, returncode=Exit.NOTHING)
            names.append(found[0] if found and not is_id else name)
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


def _narrow(selection: Selection, ids: Sequence[str], problem: str) -> Selection:
    """Return the selection of these tests. Raise `CommandError` if there are none."""
    if not ids:
        raise CommandError(problem, returncode=Exit.NOTHING)
    return replace(selection, names=tuple(ids))


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
