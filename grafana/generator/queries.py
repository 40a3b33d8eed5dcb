"""PromQL expressions that the dashboards share.

Functions of a single test take the selector of the dashboard. Expressions aggregate over replicas
before they join: while two releases run, a test has two sets of labels, and joining them directly
would cause "duplicate series" errors and duplicate rows.

Each column of a table has exactly one series per row. Grafana merges columns by the labels that
all of them have in common, so a column without any series would leave no labels to merge by.
"""

from __future__ import annotations

from collections.abc import Callable

#: Function that returns a selector for a metric name and further matchers.
Selector = Callable[..., str]

#: Value of `failing_for` for a test that has never passed; greater than any duration.
NEVER_PASSED = 1e12

#: Outcomes by code, from the best to the worst.
OUTCOMES = ("passed", "skipped", "not_run", "failed", "errored", "timed_out")


def selector(*matchers: str) -> Selector:
    """Return a function that adds the matchers: ``up`` becomes ``up{job="a"}``."""

    def select(metric: str, *more: str) -> str:
        return f"{metric}{{{', '.join((*matchers, *more))}}}"

    return select


SITE = ('job=~"$job"', 'instance=~"$instance"')
DECLARED = (
    'django_app=~"$django_app"',
    'severity=~"$severity"',
    'maintainer=~"$maintainer"',
)

#: Selectors for the sites, the selected tests and a single test.
of_sites = selector(*SITE)
of_tests = selector(*SITE, *DECLARED)
of_one_test = selector(*SITE, 'test="$test"')

#: Selector for alerts. It also matches alerts without these labels, such as an alert of several
#: replicas, which has no instance.
of_alerts = selector(
    'alertname=~"Smoke[Tt]est.*"',
    'job=~"$job|"',
    'instance=~"$instance|"',
    'severity=~"$severity|"',
    'maintainer=~"$maintainer|"',
)


# Values of tests


def by_test(expression: str) -> str:
    """Return one series per test, with the maximum of its replicas."""
    return f"max by (job, test) ({expression})"


def zero(of: Selector) -> str:
    """Return 0 for each test that has results."""
    return f"0 * {by_test(of('smoketest_test_outcome'))}"


def outcome(of: Selector, by: str = "job, test") -> str:
    """Return the worst outcome of all replicas, as its index in `OUTCOMES`."""
    series = [of("smoketest_test_outcome", f'outcome="{name}"') for name in OUTCOMES]
    codes = " or ".join(f"{code} * {one}" for code, one in enumerate(series))
    return f"max by ({by}) ({codes})"


def declared(of: Selector) -> str:
    """Return the labels of each test on the replica where it ran last; the value is that time."""
    labels = "job, test, django_app, severity, maintainer"
    last_run = of("smoketest_test_last_run_timestamp_seconds")
    return f"topk by (job, test) (1, max by ({labels}) ({last_run}))"


def links(of: Selector) -> str:
    """Return the URLs of the page and the runbook of each test, as labels."""
    addresses = f"max by (job, test, url, runbook_url) ({of_sites('smoketest_test_info')})"
    return f"topk by (job, test) (1, {addresses}) and on (job, test) {zero(of)}"


def failing_for(of: Selector) -> str:
    """Return the seconds since a failing test last passed, or `NEVER_PASSED`; 0 for others."""
    success = of("smoketest_test_success")
    last_success = of("smoketest_test_last_success_timestamp_seconds")
    return (
        f"{by_test(f'time() - {last_success} and {success} == 0')}"
        f" or {by_test(f'{success} == bool 0')} * {NEVER_PASSED:.0f} > 0"
        f" or {zero(of)}"
    )


def last_success(of: Selector) -> str:
    """Return the time of the last success in ms, or 0 for none; the earliest of all replicas."""
    timestamp = of("smoketest_test_last_success_timestamp_seconds")
    return f"1000 * min by (job, test) ({timestamp}) or {zero(of)}"


def last_run(of: Selector) -> str:
    """Return the time of the latest run in ms; the earliest of all replicas."""
    return f"1000 * min by (job, test) ({of('smoketest_test_last_run_timestamp_seconds')})"


def duration(of: Selector) -> str:
    """Return the duration of each test in seconds."""
    return by_test(of("smoketest_test_last_run_duration_seconds"))


def threshold_share(of: Selector) -> str:
    """Return the duration of each test divided by its slow threshold; 0 without a threshold."""
    durations = of("smoketest_test_last_run_duration_seconds")
    threshold = of("smoketest_test_slow_threshold_seconds")
    return f"{by_test(f'{durations} / {threshold}')} or {zero(of)}"


def weekly_median(of: Selector) -> str:
    """Return the median duration of each test over the last week, in seconds."""
    durations = of("smoketest_test_last_run_duration_seconds")
    return by_test(f"quantile_over_time(0.5, {durations}[7d])")


# Counts of tests


def count(tests: str) -> str:
    """Return the number of tests that match, or no series without any tests.

    ``or vector(0)`` would show 0 failures for a site that is not scraped.
    """
    return f"count({tests}) or 0 * count({of_tests('smoketest_test_outcome')})"


def failing(severity: str) -> str:
    """Return the tests of a severity that fail on any replica."""
    success = of_tests("smoketest_test_success", f'severity="{severity}"')
    return f"min by (job, test) ({success}) == 0"


def never_run() -> str:
    """Return the tests that have neither passed nor failed on any replica: always skipped."""
    failures = of_tests("smoketest_test_consecutive_failures")
    passed = of_tests("smoketest_test_last_success_timestamp_seconds")
    return f"{by_test(failures)} == 0 unless on (job, test) {passed}"


def stale() -> str:
    """Return the tests without a result for longer than their maximum age, on any replica."""
    last_run = of_tests("smoketest_test_last_run_timestamp_seconds")
    maximum = of_tests("smoketest_test_max_age_seconds")
    return by_test(f"time() - {last_run} > {maximum}")


def slow() -> str:
    """Return the tests that reached their slow threshold on any replica."""
    durations = of_tests("smoketest_test_last_run_duration_seconds")
    return by_test(f"{durations} >= {of_tests('smoketest_test_slow_threshold_seconds')}")


def slowest(count: int = 10) -> str:
    """Return the slowest tests of the time range, among those that have a threshold."""
    durations = of_tests("smoketest_test_last_run_duration_seconds")
    threshold = of_tests("smoketest_test_slow_threshold_seconds")
    longest = by_test(f"max_over_time({durations}[$__range] @ end()) and {threshold} @ end()")
    return f"topk({count}, {longest})"


def among_slowest(expression: str) -> str:
    """Return the expression, which has one series per test, for the slowest tests only."""
    return f"({expression}) and on (job, test) {slowest()}"


# Values of replicas


def by_replica(metric: str, absent: int) -> str:
    """Return one value per replica: the metric, or `absent` if the replica does not export it."""
    replicas = of_sites("smoketest_build_info")
    return (
        f"max by (job, instance) ({of_sites(metric)})"
        f" or {absent} * max by (job, instance) ({replicas})"
    )


def release() -> str:
    """Return the release and versions of each replica, as labels."""
    labels = "job, instance, release, version, django_version, python_version"
    return f"max by ({labels}) ({of_sites('smoketest_build_info')})"


def deploys() -> str:
    """Return releases and versions that no replica of the job was running one interval earlier.

    Excludes jobs that had no replicas then: they are new in Prometheus, not deployed.
    """
    labels = "job, release, version, django_version, python_version"
    build = of_sites("smoketest_build_info")
    before = f"last_over_time({build}[5m] offset $__interval)"
    return f"max by ({labels}) ({build}) unless max by ({labels}) ({before}) and on (job) {before}"
