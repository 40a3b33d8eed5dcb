"""Does once what a contender does, and prints the seconds, for each line of its input.

``python -m bench_site.measure CONTENDER``; a `harness.Worker` runs it. A result that is not as it
should be ends it.
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

from bench_site.suites import deed, test_classes  # noqa: E402 - it has models


def by_request() -> Callable[[], None]:
    """One request of the checks, through the whole of Django, without a socket."""
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
    """Our runner alone: nothing is discovered, recorded or shown."""
    from smoketest.results import Selection  # noqa: PLC0415
    from smoketest.runner import supervisor  # noqa: PLC0415 - other peers have no such modules
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
    """The suite as tests of unittest."""
    loader = unittest.defaultTestLoader
    classes = list(test_classes(base, __name__))

    def once() -> None:
        result = unittest.TestResult()
        unittest.TestSuite(map(loader.loadTestsFromTestCase, classes)).run(result)
        assert result.wasSuccessful(), [*result.errors, *result.failures][0]
        assert result.testsRun == settings.TESTS

    return once


def by_plain_unittest() -> Callable[[], None]:
    """unittest alone."""
    return by_unittest(unittest.TestCase)


def by_django_testcase() -> Callable[[], None]:
    """Django's TestCase, on the site's database instead of a test database."""
    from django.test import TestCase  # noqa: PLC0415 - a site does not import it

    return by_unittest(TestCase)


def by_hand() -> Callable[[], None]:
    """BEGIN, what the test does, ROLLBACK; on one connection that stays open."""
    do = deed()

    def once() -> None:
        for _ in range(settings.TESTS):
            with connection.cursor() as cursor:
                cursor.execute("BEGIN")
            do()
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")

    return once


def by_itself() -> Callable[[], None]:
    """One test of the suite, without anything around it, on a connection that it opens itself."""
    do = deed()

    def once() -> None:
        do()
        connection.close()

    return once


def by_threads() -> Callable[[], None]:
    """All tests at once, each on a thread with a connection of its own, and nothing else."""
    do = deed()

    def visit(_: int) -> None:
        do()
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
    """Answer each line."""
    once = CONTENDERS[sys.argv[1]]()
    for _ in sys.stdin:
        began = time.perf_counter()
        once()
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
