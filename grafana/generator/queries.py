"""The expressions in PromQL that the dashboards share.

Each takes the selector of its dashboard, and sums up over replicas before it joins anything: two
releases of a site may stand side by side, and then a test has two sets of labels. So no join ever
finds "duplicate series", and a test is one row.

The columns of a table are *total*: each has exactly one series for every row. Grafana merges
columns by the labels that all of them have, and one without any series would leave it none.
"""

from __future__ import annotations

from collections.abc import Callable

#: From the name of a metric, and more matchers, to a selector of its series.
Selector = Callable[..., str]

#: What `failing_for` says of a test that has never passed: longer than any time.
NEVER_PASSED = 1e12

#: The code of each outcome: the greater, the sooner somebody must look at it.
OUTCOMES = ("passed", "skipped", "not_run", "failed", "errored", "timed_out")


def selector(*matchers: str) -> Selector:
    """Selects by these matchers: ``selector('job="a"')("up")`` is ``up{job="a"}``."""

    def select(metric: str, *more: str) -> str:
        return f"{metric}{{{', '.join((*matchers, *more))}}}"

    return select


SITE = ('job=~"$job"', 'instance=~"$instance"')
DECLARED = (
    'django_app=~"$django_app"',
    'severity=~"$severity"',
    'maintainer=~"$maintainer"',
)

#: The series of the sites, of the tests that the variables choose, and of one test.
of_sites = selector(*SITE)
of_tests = selector(*SITE, *DECLARED)
of_one_test = selector(*SITE, 'test="$test"')

#: An alert of a whole site has no test, and one of many replicas no instance: those show as well.
of_alerts = selector(
    'alertname=~"Smoke[Tt]est.*"',
    'job=~"$job|"',
    'instance=~"$instance|"',
    'severity=~"$severity|"',
    'maintainer=~"$maintainer|"',
)


# Of each test


def by_test(expression: str) -> str:
    """One series a test, the greatest of its replicas."""
    return f"max by (job, test) ({expression})"


def known(of: Selector) -> str:
    """0 for every test that is known."""
    return f"0 * {by_test(of('smoketest_test_outcome'))}"


def outcome(of: Selector, by: str = "job, test") -> str:
    """The worst outcome on any replica, as its place in `OUTCOMES`."""
    series = [of("smoketest_test_outcome", f'outcome="{name}"') for name in OUTCOMES]
    codes = " or ".join(f"{code} * {one}" for code, one in enumerate(series))
    return f"max by ({by}) ({codes})"


def declared(of: Selector) -> str:
    """What is declared of each test where it ran last, as labels; the value is when that was."""
    labels = "job, test, django_app, severity, maintainer"
    last_run = of("smoketest_test_last_run_timestamp_seconds")
    return f"topk by (job, test) (1, max by ({labels}) ({last_run}))"


def links(of: Selector) -> str:
    """The addresses of each test's page and runbook, as labels."""
    addresses = f"max by (job, test, url, runbook_url) ({of_sites('smoketest_test_info')})"
    return f"topk by (job, test) (1, {addresses}) and on (job, test) {known(of)}"


def failing_for(of: Selector) -> str:
    """Seconds since the last success of a test that fails, `NEVER_PASSED`, or 0 if it does not."""
    success = of("smoketest_test_success")
    last_success = of("smoketest_test_last_success_timestamp_seconds")
    return (
        f"{by_test(f'time() - {last_success} and {success} == 0')}"
        f" or {by_test(f'{success} == bool 0')} * {NEVER_PASSED:.0f} > 0"
        f" or {known(of)}"
    )


def last_success(of: Selector) -> str:
    """When each test passed last, on the replica where that is longest ago, in ms; 0 for never."""
    timestamp = of("smoketest_test_last_success_timestamp_seconds")
    return f"1000 * min by (job, test) ({timestamp}) or {known(of)}"


def last_run(of: Selector) -> str:
    """When each test ran last, on the replica where that is longest ago, in ms."""
    return f"1000 * min by (job, test) ({of('smoketest_test_last_run_timestamp_seconds')})"


def duration(of: Selector) -> str:
    """Seconds that each test took."""
    return by_test(of("smoketest_test_last_run_duration_seconds"))


def of_threshold(of: Selector) -> str:
    """Each test's duration as a share of its own threshold; 0 if it declares none."""
    took = of("smoketest_test_last_run_duration_seconds")
    threshold = of("smoketest_test_slow_threshold_seconds")
    return f"{by_test(f'{took} / {threshold}')} or {known(of)}"


def weekly_median(of: Selector) -> str:
    """Seconds that each test took in the middle of the last week."""
    took = of("smoketest_test_last_run_duration_seconds")
    return by_test(f"quantile_over_time(0.5, {took}[7d])")


# Counts of tests


def count(tests: str) -> str:
    """How many tests the expression finds; no series where no test is known at all.

    Not ``or vector(0)``: a site that nobody scrapes is not one on which nothing fails.
    """
    return f"count({tests}) or 0 * count({of_tests('smoketest_test_outcome')})"


def failing(severity: str) -> str:
    """The tests of a severity that do not pass on some replica."""
    success = of_tests("smoketest_test_success", f'severity="{severity}"')
    return f"min by (job, test) ({success}) == 0"


def never_run() -> str:
    """The tests that neither passed nor failed on any replica, as they were always skipped."""
    failures = of_tests("smoketest_test_consecutive_failures")
    passed = of_tests("smoketest_test_last_success_timestamp_seconds")
    return f"{by_test(failures)} == 0 unless on (job, test) {passed}"


def stale() -> str:
    """The tests of which some replica has had no result for longer than their maximum age."""
    last_run = of_tests("smoketest_test_last_run_timestamp_seconds")
    maximum = of_tests("smoketest_test_max_age_seconds")
    return by_test(f"time() - {last_run} > {maximum}")


def slow() -> str:
    """The tests that took longer than their own threshold on some replica."""
    took = of_tests("smoketest_test_last_run_duration_seconds")
    return by_test(f"{took} >= {of_tests('smoketest_test_slow_threshold_seconds')}")


def slowest(count: int = 10) -> str:
    """The tests that took longest at any moment of the time range, and declare a threshold."""
    took = of_tests("smoketest_test_last_run_duration_seconds")
    threshold = of_tests("smoketest_test_slow_threshold_seconds")
    longest = by_test(f"max_over_time({took}[$__range] @ end()) and {threshold} @ end()")
    return f"topk({count}, {longest})"


def among_slowest(expression: str) -> str:
    """The expression, by test, for the slowest tests alone."""
    return f"({expression}) and on (job, test) {slowest()}"


# Of each replica


def by_replica(metric: str, absent: int) -> str:
    """One value a replica, with what stands for it while there is none."""
    there = of_sites("smoketest_build_info")
    return (
        f"max by (job, instance) ({of_sites(metric)})"
        f" or {absent} * max by (job, instance) ({there})"
    )


def release() -> str:
    """What runs on each replica, as labels."""
    labels = "job, instance, release, version, django_version, python_version"
    return f"max by ({labels}) ({of_sites('smoketest_build_info')})"


def deploys() -> str:
    """What runs on some replica of a job, and on none of them just before.

    A job that was not there at all before has been found, not deployed.
    """
    labels = "job, release, version, django_version, python_version"
    build = of_sites("smoketest_build_info")
    before = f"last_over_time({build}[5m] offset $__interval)"
    return f"max by ({labels}) ({build}) unless max by ({labels}) ({before}) and on (job) {before}"
