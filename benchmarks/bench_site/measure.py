"""Execute a contender for each input line, and print the duration in seconds.

``python -m bench_site.measure CONTENDER`` is started by `harness.Worker`. It exits if a result is
not as expected.
"""

import io
import json
import sys
import time
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.util import setup_testing_defaults

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection

django.setup()

from bench_site.suites import get_action, test_classes  # noqa: E402 - imports models


def by_request() -> Callable[[], None]:
    """Return a function that requests the checks through WSGI, without a socket."""
    application = get_wsgi_application()

    def once() -> None:
        environ: dict[str, Any] = {
            "PATH_INFO": "/checks/",
            "QUERY_STRING": "format=json" if settings.PEER == "django-health-check" else "",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_ACCEPT": "application/json",
            "HTTP_CACHE_CONTROL": "no-cache",
            "wsgi.input": io.BytesIO(),
        }
        setup_testing_defaults(environ)
        statuses = []
        answer = application(environ, lambda status, _: statuses.append(status))
        body = json.loads(b"".join(answer))
        answer.close()
        passed = body["tests_passed"] if "tests_passed" in body else len(body)
        assert statuses == ["200 OK"], (statuses, body)
        assert passed == settings.TESTS, passed

    return once


def by_runner() -> Callable[[], None]:
    """Return a function that only runs the tests, without discovery, storage and rendering."""
    from smoketest.results import Selection  # noqa: PLC0415
    from smoketest.runner import supervisor  # noqa: PLC0415 - missing in other peers
    from smoketest.runner.loader import find  # noqa: PLC0415
    from smoketest.services import run_options  # noqa: PLC0415
    from smoketest.store.abandoned import LocallyAbandoned  # noqa: PLC0415

    options, selection, abandoned = run_options(), Selection(), LocallyAbandoned()
    suite = find(selection, options)

    def once() -> None:
        report = supervisor.run(suite, selection, options, abandoned=abandoned, carried={})
        outcomes = [str(result.outcome) for result in report.results]
        assert outcomes == ["passed"] * settings.TESTS, report.problems[:1]

    return once


def by_unittest(base: type[unittest.TestCase]) -> Callable[[], None]:
    """Return a function that runs the suite with unittest."""
    loader = unittest.defaultTestLoader
    classes = list(test_classes(base, __name__))

    def once() -> None:
        result = unittest.TestResult()
        unittest.TestSuite(map(loader.loadTestsFromTestCase, classes)).run(result)
        assert result.wasSuccessful(), [*result.errors, *result.failures][0]
        assert result.testsRun == settings.TESTS

    return once


def by_plain_unittest() -> Callable[[], None]:
    """Return a function that runs the suite with `unittest.TestCase`."""
    return by_unittest(unittest.TestCase)


def by_django_testcase() -> Callable[[], None]:
    """Return a function that runs the suite with Django's `TestCase`, on the site's database."""
    from django.test import TestCase  # noqa: PLC0415 - not imported by sites

    return by_unittest(TestCase)


def by_hand() -> Callable[[], None]:
    """Return a function that executes each test between BEGIN and ROLLBACK, on one connection."""
    action = get_action()

    def once() -> None:
        for _ in range(settings.TESTS):
            with connection.cursor() as cursor:
                cursor.execute("BEGIN")
            action()
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")

    return once


def by_itself() -> Callable[[], None]:
    """Return a function that executes a single test on a new connection, without a framework."""
    action = get_action()

    def once() -> None:
        action()
        connection.close()

    return once


def by_threads() -> Callable[[], None]:
    """Return a function that executes all tests in parallel, each in a thread with a connection."""
    action = get_action()

    def visit(_: int) -> None:
        action()
        connection.close()

    def once() -> None:
        with ThreadPoolExecutor(settings.TESTS) as pool:
            list(pool.map(visit, range(settings.TESTS)))

    return once


CONTENDERS = {
    "request": by_request,
    "runner": by_runner,
    "unittest": by_plain_unittest,
    "django-testcase": by_django_testcase,
    "hand": by_hand,
    "alone": by_itself,
    "threads": by_threads,
}


def main() -> None:
    """Execute the contender for each input line."""
    once = CONTENDERS[sys.argv[1]]()
    for _ in sys.stdin:
        started = time.perf_counter()
        once()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
