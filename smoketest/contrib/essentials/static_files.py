"""Base class of the test of static files."""

from __future__ import annotations

import random
from time import monotonic  # bound here: a test may patch the module
from typing import Any

from django.apps import apps
from django.conf import STATICFILES_STORAGE_ALIAS, settings
from django.contrib.staticfiles.storage import ManifestFilesMixin
from django.core.files.storage import storages

from smoketest.case import SmokeTest
from smoketest.contrib.essentials.explain import failing

#: Maximum time for checking files, in seconds; remote storages are too slow to check thousands.
BUDGET = 2.0
#: Maximum number of missing files in the message.
SHOWN = 3
_COLLECT = "Run: manage.py collectstatic, with the production settings."


class StaticFiles(SmokeTest):
    def check_manifest(self) -> None:
        if not apps.is_installed("django.contrib.staticfiles"):
            self.skipTest("django.contrib.staticfiles is not installed.")
        if not settings.STATIC_URL:
            self.skipTest("STATIC_URL is not set, so pages cannot have static files.")
        if settings.DEBUG:
            self.skipTest("DEBUG is on: the manifest is not used.")
        if STATICFILES_STORAGE_ALIAS not in settings.STORAGES:
            self.skipTest(f"STORAGES has no {STATICFILES_STORAGE_ALIAS!r}.")
        with failing("The manifest of the static files cannot be read", _COLLECT):
            storage: Any = storages[STATICFILES_STORAGE_ALIAS]
            if not isinstance(storage, ManifestFilesMixin):
                self.skipTest(f"{type(storage).__name__} has no manifest.")
            manifest = storage.read_manifest()
        self.assertIsNotNone(
            manifest,
            f"There is no manifest {storage.manifest_name}: pages with static files will fail."
            f" {_COLLECT}",
        )
        with failing("The manifest of the static files cannot be read", _COLLECT):
            on_disk, _ = storage.load_manifest()
        self.assertFalse(
            on_disk and not storage.hashed_files,
            "This process was started before the static files were collected: restart the site.",
        )
        # A process reads the manifest only at startup, so check the files that its pages link to.
        with failing("The static files cannot be checked", _COLLECT):
            missing, checked = _missing(storage, sorted(set(storage.hashed_files.values())))
        shown = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        self.assertFalse(
            missing,
            f"{len(missing)} of {checked} checked static files are missing: {shown}. {_COLLECT}"
            " Then restart the site.",
        )


def _missing(storage: Any, names: list[str]) -> tuple[list[str], int]:
    """Return the missing files and the number of checked ones, in random order within `BUDGET`."""
    random.shuffle(names)
    deadline = monotonic() + BUDGET
    missing: list[str] = []
    checked = 0
    for name in names:
        if checked and monotonic() > deadline:
            break
        checked += 1
        if not storage.exists(name):
            missing.append(name)
    return missing, checked
