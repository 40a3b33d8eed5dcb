"""Programs that tests require, and the handling of missing ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Debian installs some server programs outside of the search path of ordinary users.
_EXTRA_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/usr/lib/postgresql/*/bin")

PACKAGES = {
    "postgres": "postgresql",
    "initdb": "postgresql",
    "pgbouncer": "pgbouncer",
    "psql": "postgresql-client",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "mariadb": "mariadb-client",
    "promtool": "prometheus",
    "chromedriver": "chromium-driver",
    "amtool": "prometheus-alertmanager",
}


def services_are_required() -> bool:
    """Return whether a missing service fails the test (as in CI) instead of skipping it."""
    return os.environ.get("SMOKETEST_TEST_REQUIRE_SERVICES") == "1"


def missing(reason: str) -> None:
    """Skip the test, or fail it if every service is required."""
    if services_are_required():
        pytest.fail(f"{reason} (SMOKETEST_TEST_REQUIRE_SERVICES=1)", pytrace=False)
    pytest.skip(reason)


def find(binary: str) -> str | None:
    """Return the path of a program, searching the usual folders of servers too."""
    folders = [os.environ.get("PATH", os.defpath)]
    for pattern in _EXTRA_FOLDERS:
        folders.extend(str(path) for path in sorted(Path("/").glob(pattern[1:]), reverse=True))
    return shutil.which(binary, path=os.pathsep.join(folders))


def require(binary: str) -> str:
    """Return the path of a program, or else skip the test, or fail it in CI."""
    path = find(binary)
    if path is None:
        package = PACKAGES.get(binary, binary)
        missing(f"{package} is not installed: apt-get install {package}")
        raise AssertionError("unreachable")
    return path
