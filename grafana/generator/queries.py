"""PromQL expressions that the dashboards share.

Functions of a single test take the selector of the dashboard. Expressions aggregate over replicas
before they join: while two releases run, a test has two sets of labels, and joining them directly
would cause "duplicate series" errors and duplicate rows.

Each column of a table has exactly one series per row. Grafana merges columns by the labels that
all of them have in common, so a column without any series would leave no labels to merge by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


#: Labels that identify a site; most installations have only some of them.
ENVIRONMENT = ("cluster", "namespace", "environment", "django_project")
SITE_LABELS = ", ".join(("job", *ENVIRONMENT))
TEST_LABELS = f"{SITE_LABELS}, test"
REPLICA_LABELS = f"{SITE_LABELS}, instance"
#: Labels of the targets of a site, which metrics of other packages have, too.
TARGET_LABELS = SITE_LABELS.removesuffix(", django_project")

#: The targets, whose metric `up` has no `django_project`.
TARGET = (
    'job=~"$job"',
    'instance=~"$instance"',
    'cluster=~"$cluster"',
    'namespace=~"$namespace"',
    'environment=~"$environment"',
)
SITE = (*TARGET, 'django_project=~"$django_project"')
DECLARED = (
    'django_app=~"$django_app"',
    'severity=~"$severity"',
    'maintainer=~"$maintainer"',
)

#: Selectors for the sites, the selected tests and a single test.
of_targets = selector(*TARGET)
of_sites = selector(*SITE)
of_tests = selector(*SITE, *DECLARED)
of_one_test = selector(*SITE, 'test="$test"')

#: Selector for alerts. It also matches alerts without these labels, such as an alert of several
#: replicas, which has no instance.
of_alerts = selector(
    'alertname=~"Smoke[Tt]est.*"',
    'job=~"$job|"',
    'instance=~"$instance|"',
    'cluster=~"$cluster"',
    'namespace=~"$namespace"',
    'environment=~"$environment"',
    'django_project=~"$django_project"',
    'severity=~"$severity|"',
    'maintainer=~"$maintainer|"',
)


# Values of tests


def by_test(expression: str) -> str:
    """Return one series per test, with the maximum of its replicas."""
    return f"max by ({TEST_LABELS}) ({expression})"


def zero(of: Selector) -> str:
    """Return 0 for each test that has results."""
    return f"0 * {by_test(of('smoketest_test_outcome'))}"


def outcome(of: Selector, by: str = TEST_LABELS) -> str:
    """Return the worst outcome of all replicas, as its index in `OUTCOMES`.

    The filter comes first: only one of the six series of a test is 1.
    """
    series = [of("smoketest_test_outcome", f'outcome="{name}"') for name in OUTCOMES]
    codes = " or ".join(f"{code} * ({one} == 1)" for code, one in enumerate(series))
    return f"max by ({by}) ({codes})"


def recorded_outcome(of: Selector) -> str:
    """Return the worst outcome of all replicas as the alert rules have recorded it.

    Over a time range, it takes a small fraction of the time of `outcome`.
    """
    return _of_recorded("test:smoketest_test_outcome:max", of, "instance=")


def _of_recorded(metric: str, of: Selector, *dropped: str) -> str:
    """Return a recorded series with the matchers whose labels it has."""
    name, _, matchers = of(metric).partition("{")
    kept = [m for m in matchers.rstrip("}").split(", ") if not m.startswith(dropped)]
    return f"{name}{{{', '.join(kept)}}}"


def declared(of: Selector) -> str:
    """Return the labels of each test on the replica where it ran last; the value is that time."""
    labels = f"{TEST_LABELS}, django_app, severity, maintainer"
    last_run = of("smoketest_test_last_run_timestamp_seconds")
    return f"topk by ({TEST_LABELS}) (1, max by ({labels}) ({last_run}))"


def links(of: Selector) -> str:
    """Return the URLs of the page and the runbook of each test, as labels."""
    return f"{_links()} and on ({TEST_LABELS}) {zero(of)}"


def _links() -> str:
    info = of_sites("smoketest_test_info")
    addresses = f"max by ({TEST_LABELS}, url, runbook_url) ({info})"
    return f"topk by ({TEST_LABELS}) (1, {addresses})"


def failing_for(of: Selector) -> str:
    """Return the seconds since a failing test last passed, or `NEVER_PASSED`; 0 for others."""
    success = of("smoketest_test_success")
    last_success = of("smoketest_test_last_success_timestamp_seconds")
    return (
        f"{by_test(f'time() - {last_success} and {success} == 0')}"
        f" or time() - {remembered(of)} and on ({TEST_LABELS}) {by_test(f'{success} == 0')}"
        f" or {by_test(f'{success} == bool 0')} * {NEVER_PASSED:.0f} > 0"
        f" or {zero(of)}"
    )


def last_success(of: Selector) -> str:
    """Return the time of the last success in ms, or 0 for none; the earliest of all replicas."""
    timestamp = of("smoketest_test_last_success_timestamp_seconds")
    return (
        f"1000 * min by ({TEST_LABELS}) ({timestamp})"
        f" or 1000 * {remembered(of)} and on ({TEST_LABELS}) {zero(of)}"
        f" or {zero(of)}"
    )


def remembered(of: Selector) -> str:
    """Return the last success that the recording rules remember, without them no series."""
    # The rule has no labels of replicas, and none that a test declares.
    metric = "test:smoketest_test_last_success_timestamp_seconds:max"
    dropped = ("instance=", "django_app=", "severity=", "maintainer=")
    return by_test(_of_recorded(metric, of, *dropped))


def last_run(of: Selector) -> str:
    """Return the time of the latest run in ms; the earliest of all replicas."""
    return f"1000 * min by ({TEST_LABELS}) ({of('smoketest_test_last_run_timestamp_seconds')})"


def duration(of: Selector) -> str:
    """Return the duration of each test in seconds."""
    return by_test(of("smoketest_test_last_run_duration_seconds"))


def threshold_share(of: Selector) -> str:
    """Return the duration of each test divided by its slow threshold; 0 without a threshold."""
    durations = of("smoketest_test_last_run_duration_seconds")
    threshold = of("smoketest_test_slow_threshold_seconds")
    return f"{by_test(f'{durations} / {threshold}')} or {zero(of)}"


def weekly_median(of: Selector) -> str:
    """Return the median duration of each test in the week before the end of the time range.

    A range query evaluates it only once, because of ``@ end()``.
    """
    durations = of("smoketest_test_last_run_duration_seconds")
    return by_test(f"quantile_over_time(0.5, {durations}[7d] @ end())")


def weekly_median_of_slowest() -> str:
    """Return the median duration of the slowest tests over the last week, in seconds.

    The slowest tests are selected first, and four samples per day are enough. A test without
    such a sample is new: its median is its latest duration.
    """
    durations = among_slowest(duration(of_tests))
    return f"(quantile_over_time(0.5, ({durations})[7d:6h]) or {durations})"


# Counts of tests


def count(tests: str) -> str:
    """Return the number of tests that match, or no series without any tests.

    ``or vector(0)`` would show 0 failures for a site that is not scraped.
    """
    return f"count({tests}) or 0 * count({of_tests('smoketest_test_outcome')})"


def failing(severity: str) -> str:
    """Return the tests of a severity that fail on any replica."""
    success = of_tests("smoketest_test_success", f'severity="{severity}"')
    return f"min by ({TEST_LABELS}) ({success}) == 0"


def never_run() -> str:
    """Return the tests that have neither passed nor failed on any replica: always skipped."""
    failures = of_tests("smoketest_test_consecutive_failures")
    passed = of_tests("smoketest_test_last_success_timestamp_seconds")
    return f"{by_test(failures)} == 0 unless on ({TEST_LABELS}) {passed}"


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
    return f"({expression}) and on ({TEST_LABELS}) {slowest()}"


# Values of replicas


def dead() -> str:
    """Return 0 for each replica whose scrape fails, if it exposed the metrics in the time range."""
    known = f"last_over_time({of_sites('smoketest_build_info')}[$__range])"
    down = f"({of_targets('up')} == 0)"
    return f"0 * max by ({REPLICA_LABELS}) ({known} and on (job, instance) {down})"


def up() -> str:
    """Return 1 for each replica that can be scraped, 0 for each that cannot."""
    return f"max by ({REPLICA_LABELS}) ({of_sites('smoketest_build_info')}) or {dead()}"


#: Values of `status`.
DOWN, FAIL, PASS, NO_RUN = -1, 0, 1, 2


def status() -> str:
    """Return the result of the latest full run of each replica, or `DOWN` or `NO_RUN`."""
    success = f"max by ({REPLICA_LABELS}) ({of_sites('smoketest_last_run_success')})"
    return f"{success} or {dead()} - 1 or {NO_RUN} * ({up()})"


def of_each_site(operator: str, replicas: str) -> str:
    """Aggregate the replicas of each site."""
    return f"{operator} by ({SITE_LABELS}) ({replicas})"


def site_variables() -> str:
    """Return the variables of a dashboard that select each site, as the label `variables`."""
    query = of_each_site("max", up())
    names = ("job", *ENVIRONMENT)
    for name in names:
        query = f'label_replace({query}, "_{name}", "&var-{name}=$1", "{name}", "(.+)")'
    parts = ", ".join(f'"_{name}"' for name in names)
    return f'label_join({query}, "variables", "", {parts})'


def failing_by_site() -> str:
    """Return the number of failing tests of each site, whatever their severity."""
    tests = f"min by ({TEST_LABELS}) ({of_sites('smoketest_test_success')}) == 0"
    return f"count by ({SITE_LABELS}) ({tests}) or 0 * {of_each_site('max', up())}"


def oldest_run() -> str:
    """Return the time of the oldest full run of each site in ms, or 0 for none."""
    times = of_sites("smoketest_last_run_timestamp_seconds")
    return f"1000 * {of_each_site('min', times)} or 0 * {of_each_site('max', up())}"


def by_replica(metric: str, absent: int) -> str:
    """Return one value per replica: the metric, or `absent` if the replica does not export it."""
    return f"max by ({REPLICA_LABELS}) ({of_sites(metric)}) or {absent} + 0 * ({up()})"


def release() -> str:
    """Return the release and versions of each replica, as labels."""
    build = of_sites("smoketest_build_info")
    labels = f"{REPLICA_LABELS}, release, version, django_version, python_version"
    down = f"last_over_time({build}[$__range]) and on (job, instance) {of_targets('up')} == 0"
    return f"topk by ({REPLICA_LABELS}) (1, max by ({labels}) ({build} or {down}))"


def deploys() -> str:
    """Return releases and versions that no replica of the site was running one interval earlier.

    Excludes sites that had no replicas then: they are new in Prometheus, not deployed.
    """
    labels = f"{SITE_LABELS}, release, version, django_version, python_version"
    build = of_sites("smoketest_build_info")
    before = f"last_over_time({build}[5m] offset $__interval)"
    return (
        f"max by ({labels}) ({build}) unless max by ({labels}) ({before})"
        f" and on ({SITE_LABELS}) {before}"
    )


# Alerts


def alerts(runbooks: Mapping[str, str]) -> str:
    """Return the time since which each alert is firing, in ms, with the URLs as labels.

    Alerts about tests have the URLs of the test. `runbooks` has the URL of the page for each
    alert, which applies to the others and to tests without a runbook.
    """
    firing = of_alerts("ALERTS", 'alertstate="firing"')
    since = f"{of_alerts('ALERTS_FOR_STATE')} and ignoring (alertstate) {firing}"
    linked = (
        f"({since}) + on ({TEST_LABELS}) group_left (url, runbook_url) 0 * {_links()}"
        f" or ignoring (url, runbook_url) {since}"
    )
    query = f'label_join({linked}, "page", " ", "alertname", "runbook_url")'
    for name, url in runbooks.items():
        query = f'label_replace({query}, "runbook_url", "{url}", "page", "{name} ")'
    return f"1000 * {query}"
