"""Updates for a finished run, and deletion of old runs."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from dataclasses import asdict

from smoketest.results import Outcome, Report, Result, RunResult, is_dotted_prefix
from smoketest.store.schema import WAS_RESET, set_metadata

#: Number of full runs whose outcomes are kept, and of other runs of each test.
KEPT_RUNS = 100
#: Number of other runs that are kept in total.
KEPT_OTHER_RUNS = 10 * KEPT_RUNS
#: Number of full runs, and of other runs, whose complete reports are kept.
KEPT_REPORTS = 5


def record(database: sqlite3.Connection, report: Report) -> None:
    run = database.execute(
        "INSERT INTO runs (started_at, duration, result, passed, is_full, selection, cut,"
        " collection_errors, outcomes, report) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            report.started_at,
            report.duration,
            report.result,
            report.passed,
            report.is_full,
            json.dumps(asdict(report.selection)),
            report.stop_reason,
            sum(result.declaration.is_collection_error for result in report.results),
            json.dumps(Counter(r.outcome for r in report.results if not r.declaration.is_fixture)),
            json.dumps(report.to_dict()),
        ],
    ).lastrowid
    for result in report.results:
        if not result.carried and result.outcome is not Outcome.NOT_RUN:
            _record_result(database, run, result)
    if report.is_full:
        _delete_removed_tests(database, report)
        database.execute("DELETE FROM facts WHERE name = ?", [WAS_RESET])
        if report.passed:
            set_metadata(database, "last_success_at", report.finished_at)
    if report.selection.is_everything:
        count_run(database, report.result)
        database.execute("DELETE FROM facts WHERE name = 'running_since'")
    _prune(database, report)


def _record_result(database: sqlite3.Connection, run: int | None, result: Result) -> None:
    database.execute(
        "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?, ?)",
        [result.id, run, result.outcome, result.started_at, result.duration],
    )
    content = json.dumps(asdict(result))
    is_problem = result.is_problem
    has_passed = result.outcome is Outcome.PASSED
    database.execute(
        "INSERT INTO tests VALUES"
        " (:test, :result, :is_problem, :failing_since, :success_at, :failure)"
        " ON CONFLICT (test) DO UPDATE SET result = :result,"
        " last_failure = coalesce(:failure, last_failure),"
        " consecutive_failures ="
        " CASE WHEN :has_passed THEN 0 ELSE consecutive_failures + :is_problem END,"
        " failing_since ="
        " CASE WHEN :has_passed THEN NULL ELSE coalesce(failing_since, :failing_since) END,"
        " last_success_at = coalesce(:success_at, last_success_at)",
        {
            "test": result.id,
            "result": content,
            "failure": content if is_problem else None,
            "is_problem": is_problem,
            "has_passed": has_passed,
            "failing_since": result.started_at if is_problem else None,
            "success_at": result.finished_at if has_passed else None,
        },
    )
    database.execute(
        "INSERT INTO test_totals VALUES (?, ?, 1)"
        " ON CONFLICT (test, outcome) DO UPDATE SET runs = runs + 1",
        [result.id, result.outcome],
    )


def _delete_removed_tests(database: sqlite3.Connection, report: Report) -> None:
    """Delete the records of tests that no longer exist.

    Tests of a module that cannot be imported still exist. If an import timed out, any test may be
    missing from the report, so nothing is deleted.
    """
    if any(
        r.declaration.is_collection_error and r.outcome is Outcome.TIMED_OUT for r in report.results
    ):
        return
    present = {result.id for result in report.results}
    broken = [r.id for r in report.results if r.declaration.is_collection_error]
    for (test,) in database.execute("SELECT test FROM tests").fetchall():
        if test not in present and not any(is_dotted_prefix(module, test) for module in broken):
            database.execute("DELETE FROM tests WHERE test = ?", [test])


def _prune(database: sqlite3.Connection, report: Report) -> None:
    """Delete old runs, reports and outcomes.

    Full runs are kept apart from other runs, and other runs are kept per test, so that frequent
    requests for some of the tests do not displace the history of the others.
    """
    for is_full in (True, False):
        database.execute(
            "UPDATE runs SET report = NULL WHERE report IS NOT NULL AND is_full = :is_full"
            " AND id NOT IN (SELECT id FROM runs WHERE report IS NOT NULL AND is_full = :is_full"
            " ORDER BY id DESC LIMIT :kept)",
            {"is_full": is_full, "kept": KEPT_REPORTS},
        )
    if report.is_full:
        database.execute(
            "DELETE FROM runs WHERE is_full AND id NOT IN"
            " (SELECT id FROM runs WHERE is_full ORDER BY id DESC LIMIT ?)",
            [KEPT_RUNS],
        )
        return
    database.executemany(
        "DELETE FROM outcomes WHERE test = :test AND run IN"
        " (SELECT run FROM outcomes JOIN runs ON id = run WHERE test = :test AND NOT is_full"
        " ORDER BY run DESC LIMIT -1 OFFSET :kept)",
        [{"test": result.id, "kept": KEPT_RUNS} for result in report.results],
    )
    database.execute(
        "DELETE FROM runs WHERE NOT is_full AND report IS NULL"
        " AND (NOT EXISTS (SELECT 1 FROM outcomes WHERE run = id) OR id <="
        " (SELECT id FROM runs WHERE NOT is_full ORDER BY id DESC LIMIT 1 OFFSET ?))",
        [KEPT_OTHER_RUNS],
    )


def count_run(database: sqlite3.Connection, result: RunResult) -> None:
    database.execute(
        "INSERT INTO run_totals VALUES (?, 1) ON CONFLICT (result) DO UPDATE SET runs = runs + 1",
        [result],
    )
