"""Settings of the tests. The SQLite databases are files, so that threads can share them."""

import atexit
import shutil
import tempfile
from pathlib import Path

_folder = Path(tempfile.mkdtemp(prefix="smoketest-tests-"))
atexit.register(shutil.rmtree, _folder, ignore_errors=True)

SECRET_KEY = "not-secret"
USE_TZ = True
ROOT_URLCONF = "tests.urls"
ALLOWED_HOSTS = ["testserver"]
INSTALLED_APPS = ["smoketest", "tests.ledger"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    alias: {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _folder / f"{alias}.sqlite3",
        "TEST": {"NAME": _folder / f"test-{alias}.sqlite3"},
    }
    for alias in ("default", "other")
}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
LOGGING_CONFIG = None
# Most tests compare the messages that clients without full access see.
SMOKETEST_PUBLIC_DETAILS = True
