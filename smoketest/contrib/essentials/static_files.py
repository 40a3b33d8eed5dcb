"""Static files: what the manifest names is there."""

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

#: Seconds to look for files; a storage behind a network has no time for thousands of them.
BUDGET = 2.0
#: How many missing files a message names.
SHOWN = 3
_COLLECT = "Run: manage.py collectstatic, with the settings of production."


class StaticFiles(SmokeTest):
    def check_manifest(self) -> None:
        if not apps.is_installed("django.contrib.staticfiles"):
            self.skipTest("django.contrib.staticfiles is not installed.")
        if settings.DEBUG:
            self.skipTest("DEBUG is on: static files go by their own names.")
        if STATICFILES_STORAGE_ALIAS not in settings.STORAGES:
            self.skipTest(f"STORAGES has no {STATICFILES_STORAGE_ALIAS!r}.")
        with failing("The manifest of the static files cannot be read", _COLLECT):
            storage: Any = storages[STATICFILES_STORAGE_ALIAS]
            if not isinstance(storage, ManifestFilesMixin):
                self.skipTest(f"{type(storage).__name__} has no manifest.")
            manifest = storage.read_manifest()
        self.assertIsNotNone(
            manifest,
            f"There is no manifest {storage.manifest_name}: pages with static files are errors."
            f" {_COLLECT}",
        )
        with failing("The manifest of the static files cannot be read", _COLLECT):
            on_disk, _ = storage.load_manifest()
        self.assertFalse(
            on_disk and not storage.hashed_files,
            "This process began before the static files were collected: restart the site.",
        )
        # What this process links to, since it reads the manifest only when it starts.
        with failing("Static files cannot be looked for", _COLLECT):
            missing, looked = _missing(storage, sorted(set(storage.hashed_files.values())))
        shown = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        self.assertFalse(
            missing,
            f"{len(missing)} of {looked} static files that were looked for are missing: {shown}."
            f" {_COLLECT} Restart the site after it.",
        )


def _missing(storage: Any, names: list[str]) -> tuple[list[str], int]:
    """Those that are not there, and how many were looked for; others each time, if not all."""
    random.shuffle(names)
    deadline = monotonic() + BUDGET
    missing: list[str] = []
    looked = 0
    for name in names:
        if looked and monotonic() > deadline:
            break
        looked += 1
        if not storage.exists(name):
            missing.append(name)
    return missing, looked
