"""Settings of the measured site; the environment says how large it is."""

import os
from pathlib import Path

FOLDER = Path(os.environ["BENCHMARK_FOLDER"])
TESTS = int(os.environ["BENCHMARK_TESTS"])
WITH_PEERS = os.environ.get("BENCHMARK_PEERS") != "no"

SECRET_KEY = "not-secret"  # noqa: S105 - a site that lives for a minute, on loopback
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["smoketest", "scrape_site"]
# None: what a middleware costs is the same for all that are compared, and would hide differences.
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "scrape_site.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "db.sqlite3"}}

SMOKETEST_STATE_DIR = FOLDER / "state"
SMOKETEST_PUBLIC_URL = "https://shop.example.com"
SMOKETEST_RELEASE = "2026.1"
# Such that each scrape asks whether a run is due, as on any site, and none is.
SMOKETEST_INTERVAL = 86400 if os.environ["BENCHMARK_INTERVAL"] == "day" else None
SMOKETEST_RUN_TIMEOUT = 300
