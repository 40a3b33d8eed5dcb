"""Which programs a test needs, and what happens where they are missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Debian keeps some server programs outside of the search path of ordinary users.
_EXTRA_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/usr/lib/postgresql/*/bin")

PACKAGES = {
    "postgres": "postgresql",
    "initdb": "postgresql",
    "psql": "postgresql-client",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "mariadb": "mariadb-client",
    "promtool": "prometheus",
    "chromedriver": "chromium-driver",
    "amtool": "prometheus-alertmanager",
}


def services_are_required() -> bool:
    """Whether a missing service is a failure (as in CI) instead of a skip."""
    return os.environ.get("SMOKETEST_TEST_REQUIRE_SERVICES") == "1"


def missing(reason: str) -> None:
    """Skip the test, or fail it where every service is required."""
    if services_are_required():
        pytest.fail(f"{reason} (SMOKETEST_TEST_REQUIRE_SERVICES=1)", pytrace=False)
    pytest.skip(reason)


def find(binary: str) -> str | None:
    """The path of a program, looked for where servers are usually installed too."""
    folders = [os.environ.get("PATH", os.defpath)]
    for pattern in _EXTRA_FOLDERS:
        folders.extend(str(path) for path in sorted(Path("/").glob(pattern[1:]), reverse=True))
    return shutil.which(binary, path=os.pathsep.join(folders))


def require(binary: str) -> str:
    """The path of a program; without it the test is skipped, or fails in CI."""
    path = find(binary)
    if path is None:
        package = PACKAGES.get(binary, binary)
        missing(f"{package} is not installed: apt-get install {package}")
        raise AssertionError("unreachable")
    return path
