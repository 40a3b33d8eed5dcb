"""Settings of the example shop, similar to those of a production site.

All data is stored in the directory ``EXAMPLE_DATA_DIR``. Copy the ``SMOKETEST_*`` settings at the
end to your own site; all of them are optional.
"""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key

from shop import databases, switches


def seconds(name: str, default: float) -> float:
    """Return a number of seconds from an environment variable."""
    value = os.environ.get(name, "")
    try:
        return float(value) if value else default
    except ValueError:
        msg = f"{name} is {value!r}; it must be a number of seconds, such as {default}."
        raise ImproperlyConfigured(msg) from None


BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("EXAMPLE_DATA_DIR") or BASE_DIR / ".data").absolute()
DATA_DIR.mkdir(parents=True, exist_ok=True)


def secret_key() -> str:
    """Return the key of this installation, and generate it on first use."""
    file = DATA_DIR / "secret_key"
    try:
        with open(file, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as new:
            new.write(get_random_secret_key())
    except FileExistsError:
        pass
    return file.read_text()


SECRET_KEY = os.environ.get("EXAMPLE_SECRET_KEY") or secret_key()
DEBUG = os.environ.get("EXAMPLE_DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    "smoketest",
    # Built-in checks of databases, caches, storages etc., and of URLs.
    "smoketest.contrib.essentials",
    "smoketest.contrib.http",
    "shop",
    "catalog",
    "orders.apps.OrdersConfig",
    "archive",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
ASGI_APPLICATION = "shop.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    },
]

SQLITE_OPTIONS = {
    # With WAL, readers and the writer do not block each other.
    "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
    "transaction_mode": "IMMEDIATE",
    "timeout": 5,
}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "shop.sqlite3",
        "OPTIONS": SQLITE_OPTIONS,
    },
    # Use "django.db.backends.sqlite3" in your own site, and Django's cache and storage backends
    # below. The breakable backends demonstrate failing smoke tests.
    "archive": {
        "ENGINE": "shop.breakable",
        "NAME": DATA_DIR / "archive.sqlite3",
        "OPTIONS": SQLITE_OPTIONS,
    },
}
if address := os.environ.get("EXAMPLE_DATABASE"):
    DATABASES["default"] = databases.parse(address, "EXAMPLE_DATABASE")
DATABASE_ROUTERS = ["archive.router.ArchiveRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {
        # File-based, so that all worker processes share it.
        "BACKEND": "shop.breakable.cache.BreakableCache",
        "LOCATION": DATA_DIR / "cache",
    },
}
STORAGES = {"default": {"BACKEND": "shop.breakable.storage.BreakableStorage"}}
MEDIA_ROOT = DATA_DIR / "media"
#: Mount point of the volume for media; empty if media are on the host's own disk.
MEDIA_MOUNT = os.environ.get("EXAMPLE_MEDIA_MOUNT", "")

# The shop listens only on this host, without TLS and tokens.
SILENCED_SYSTEM_CHECKS = [
    "security.W004",
    "security.W008",
    "security.W016",
    "smoketest.I002",
    "smoketest.W006",
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("EXAMPLE_LOG_LEVEL", "INFO")},
    # Log errors to stderr instead of mailing them to the admins.
    "loggers": {"django": {"handlers": [], "propagate": True}},
}

# Simulated failures; see shop/switches.py.
EXAMPLE_BREAK = switches.parse(os.environ.get("EXAMPLE_BREAK", ""), "EXAMPLE_BREAK")
EXAMPLE_SLOW_SECONDS = seconds("EXAMPLE_SLOW_SECONDS", 1.5)
#: Simulated latency of the carrier, in seconds.
CARRIER_LATENCY = seconds("EXAMPLE_SLEEP", 0.05)

# ---- Smoke tests ----

# Default timeout of a test, and deadline of a run, in seconds.
SMOKETEST_TIMEOUT = seconds("EXAMPLE_TIMEOUT", 10)
SMOKETEST_RUN_TIMEOUT = seconds("EXAMPLE_RUN_TIMEOUT", 25)
# Maximum age of the results that GET /smoketest/ returns, in seconds: many requests, for example
# from load balancers, share one run.
SMOKETEST_MAX_AGE = seconds("EXAMPLE_MAX_AGE", 5)
# Expected interval between full runs, in seconds. A scrape of /smoketest/metrics starts a run when
# it is due, and an alert fires if runs are missing.
SMOKETEST_INTERVAL = seconds("EXAMPLE_INTERVAL", 60)
# Number of threads that run test classes in parallel.
SMOKETEST_WORKERS = 4
# Directory of the results store, shared by all processes of the site on this host.
SMOKETEST_STATE_DIR = DATA_DIR / "smoketest"
# Whether clients without full access see all messages. They may contain data of the site, so the
# default is False in production. The shop only has invented data.
SMOKETEST_PUBLIC_DETAILS = os.environ.get("EXAMPLE_PUBLIC_DETAILS", "1") == "1"
# Names or labels of apps whose smoke tests are not discovered.
SMOKETEST_SKIP_APPS = os.environ.get("EXAMPLE_SKIP_APPS", "").split()
# Pages of this site that smoketest.contrib.http requests; URLs of other sites are possible.
SMOKETEST_HTTP_CHECKS = [
    {"url": "/", "name": "start", "text": "Smoke tests"},
    {"url": "/books/", "name": "books", "text": "Bleak House"},
]
# Version or commit of the deployment, which labels each run.
SMOKETEST_RELEASE = os.environ.get("EXAMPLE_RELEASE", "example")
