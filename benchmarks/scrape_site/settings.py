"""Settings of the benchmarked site. The environment sets the number of tests."""

import os
from pathlib import Path

FOLDER = Path(os.environ["BENCHMARK_FOLDER"])
TESTS = int(os.environ["BENCHMARK_TESTS"])
WITH_PEERS = os.environ.get("BENCHMARK_PEERS") != "no"

SECRET_KEY = "not-secret"  # noqa: S105 - short-lived site on loopback
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["smoketest", "scrape_site"]
# No middleware: its cost is the same for all contenders, and would hide differences.
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "scrape_site.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "db.sqlite3"}}

SMOKETEST_STATE_DIR = FOLDER / "state"
SMOKETEST_PUBLIC_URL = "https://shop.example.com"
SMOKETEST_RELEASE = "2026.1"
# With an interval, each scrape checks whether a run is due, as on a real site; none is.
SMOKETEST_INTERVAL = 86400 if os.environ["BENCHMARK_INTERVAL"] == "day" else None
SMOKETEST_RUN_TIMEOUT = 300
