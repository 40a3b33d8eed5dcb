"""Attach server logs to the report of a failed end-to-end test."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.servers.processes import running_logs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Append the logs of the servers that fixtures keep running."""
    report = yield
    if report.failed:
        report.sections.extend(running_logs())
    return report
