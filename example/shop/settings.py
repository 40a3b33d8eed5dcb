"""Settings of the example shop, close to those of a site in production.

Everything that changes lives below one folder, ``EXAMPLE_DATA_DIR``. The ``SMOKETEST_*`` block at
the end is the part to copy; all of it is optional.
"""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key

from shop import databases, switches


def seconds(name: str, default: float) -> float:
    """Read a number of seconds from the environment."""
    value = os.environ.get(name, "")
    try:
        return float(value) if value else default
    except ValueError:
        msg = f"{name} = {value!r}: must be a number of seconds, for example {default}."
        raise ImproperlyConfigured(msg) from None


BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("EXAMPLE_DATA_DIR") or BASE_DIR / ".data").absolute()
DATA_DIR.mkdir(parents=True, exist_ok=True)


def secret_key() -> str:
    """Return the key of this installation, made up when it is first asked for."""
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
    # Smoke tests that need no writing, of what nearly every site has, and of addresses.
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
    # Readers and the one writer do not wait for each other.
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
    # A site of your own says "django.db.backends.sqlite3" here, too, and Django's own backends
    # below: the breakable ones can be broken from outside, to show smoke tests that fail.
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
        # In files, so that all worker processes share it.
        "BACKEND": "shop.breakable.cache.BreakableCache",
        "LOCATION": DATA_DIR / "cache",
    },
}
STORAGES = {"default": {"BACKEND": "shop.breakable.storage.BreakableStorage"}}
MEDIA_ROOT = DATA_DIR / "media"
#: Where the volume for media must be mounted; empty if media live on the host's own disk.
MEDIA_MOUNT = os.environ.get("EXAMPLE_MEDIA_MOUNT", "")

# This shop is open on this host alone, without TLS and without a token.
SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008", "security.W016", "smoketest.W006"]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("EXAMPLE_LOG_LEVEL", "INFO")},
    # Django would mail its errors to the admins; here they go where all others go.
    "loggers": {"django": {"handlers": [], "propagate": True}},
}

# What can be broken or made slow on purpose; see shop/switches.py.
EXAMPLE_BREAK = switches.parse(os.environ.get("EXAMPLE_BREAK", ""), "EXAMPLE_BREAK")
EXAMPLE_SLOW_SECONDS = seconds("EXAMPLE_SLOW_SECONDS", 1.5)
#: How long the carrier takes to quote a price.
CARRIER_LATENCY = seconds("EXAMPLE_SLEEP", 0.05)

# ---- Smoke tests ----

# How long a test may take if it does not say so itself, and how long a whole run may.
SMOKETEST_TIMEOUT = seconds("EXAMPLE_TIMEOUT", 10)
SMOKETEST_RUN_TIMEOUT = seconds("EXAMPLE_RUN_TIMEOUT", 25)
# How old an answer of GET /smoketest/ may be: however many load balancers ask, the tests run
# once in so many seconds.
SMOKETEST_MAX_AGE = seconds("EXAMPLE_MAX_AGE", 5)
# How often a full run is expected. Scrapes of /smoketest/metrics start one when it is due, and
# an alert fires if there is none.
SMOKETEST_INTERVAL = seconds("EXAMPLE_INTERVAL", 60)
# How many test classes run at the same time.
SMOKETEST_WORKERS = 4
# Where the results are kept. All processes of the site on this host share the folder.
SMOKETEST_STATE_DIR = DATA_DIR / "smoketest"
# Names or labels of apps whose smoke tests are left out.
SMOKETEST_SKIP_APPS = os.environ.get("EXAMPLE_SKIP_APPS", "").split()
# Pages of this site that smoketest.contrib.http asks for; addresses of others could follow.
SMOKETEST_HTTP_CHECKS = [
    {"url": "/", "name": "start", "text": "Smoke tests"},
    {"url": "/books/", "name": "books", "text": "Bleak House"},
]
# A label of each run: the version or commit that your deployment knows.
SMOKETEST_RELEASE = os.environ.get("EXAMPLE_RELEASE", "example")
