"""Smoke tests of what the site stands on: its cache and its media folder."""

import os
import unittest
import uuid

from django.conf import settings
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from smoketest import SmokeTest, tag


@tag("cache", "readiness")
class CacheTest(SmokeTest):
    """Only databases are rolled back; in a cache a test tidies up after itself."""

    databases = ()
    maintainer = "platform"
    runbook_url = "https://wiki.example.com/runbooks/cache"

    def test_cache_keeps_a_value(self) -> None:
        """A value that was stored in the cache comes back."""
        key = f"smoketest:{uuid.uuid4()}"  # no visitor and no other run uses this key
        self.addCleanup(cache.delete, key)
        cache.set(key, "kept", timeout=60)
        self.assertEqual(
            cache.get(key),
            "kept",
            "The cache loses what is stored in it: look at the free space and inodes below "
            f"{settings.CACHES['default']['LOCATION']}.",
        )


@tag("media")
class MediaTest(SmokeTest):
    """Covers and invoices are kept in the media folder."""

    databases = ()
    maintainer = "platform"
    runbook_url = "https://wiki.example.com/runbooks/media"

    @tag("readiness")
    def test_media_folder_is_writable(self) -> None:
        """A file can be written to the media folder and read again."""
        try:
            name = default_storage.save(f"smoketest-{uuid.uuid4()}", ContentFile(b"kept"))
        except OSError as error:
            self.fail(
                f"Nothing can be saved below {settings.MEDIA_ROOT} ({error}): look whether its "
                "volume is mounted, writable and not full. Until then orders have no invoices."
            )
        self.addCleanup(default_storage.delete, name)
        with default_storage.open(name) as file:
            self.assertEqual(
                file.read(),
                b"kept",
                f"Files below {settings.MEDIA_ROOT} come back changed: take the volume out of "
                "service and check its file system.",
            )

    @unittest.skipUnless(
        settings.MEDIA_MOUNT, "media are on no volume: EXAMPLE_MEDIA_MOUNT is not set"
    )
    def test_media_volume_is_mounted(self) -> None:
        """The media folder is on its volume: else files land on the host's own disk, unnoticed."""
        self.assertTrue(
            os.path.ismount(settings.MEDIA_MOUNT),
            f"The volume for media is not mounted: run `mount {settings.MEDIA_MOUNT}`, then move "
            "what was written beneath the mount point onto the volume.",
        )
