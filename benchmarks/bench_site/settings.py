"""Settings of the benchmarked sites. `BENCHMARK_*` variables select the peer and the suite."""

import json
import os
from pathlib import Path

FOLDER = Path(os.environ["BENCHMARK_FOLDER"])
#: The name of the peer in `harness`, or `none`.
PEER = os.environ["BENCHMARK_PEER"].partition(" ")[0]
#: Name of a suite in `suites`.
SUITE = os.environ.get("BENCHMARK_SUITE", "trivial")
TESTS = int(os.environ.get("BENCHMARK_TESTS", "1"))
CLASSES = int(os.environ.get("BENCHMARK_CLASSES", "1"))

SECRET_KEY = "not-secret"  # noqa: S105 - short-lived site on loopback
ALLOWED_HOSTS = ["127.0.0.1"]
APPS = {
    "us": ["smoketest"],
    "django-smoketest": ["smoketest"],
    "django-health-check": ["health_check"],
    "django-watchman": ["watchman"],
    "none": [],
}
INSTALLED_APPS = [*APPS[PEER], "bench_site"]
# No middleware: its cost is the same for all peers, and would hide differences.
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "bench_site.urls"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": json.loads(os.environ.get("BENCHMARK_DATABASE") or "null")
    or {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / "db.sqlite3",
        "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL"},
    }
}
LOGGING_CONFIG = None  # failures are intended

SMOKETEST_STATE_DIR = FOLDER / "state"
SMOKETEST_INTERVAL = None
SMOKETEST_RUN_TIMEOUT = 300
globals().update(json.loads(os.environ.get("BENCHMARK_SETTINGS", "{}")))

# Defined by bench_site.watchman_checks.
WATCHMAN_CHECKS = tuple(f"bench_site.watchman_checks.check_{number}" for number in range(TESTS))
