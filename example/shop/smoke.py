"""Smoke tests of the cache and the media storage."""

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
    """Tests of the cache. Only databases are rolled back, so the test deletes its key."""

    databases = ()
    maintainer = "platform"
    runbook_url = "https://wiki.example.com/runbooks/cache"

    def test_cache_keeps_a_value(self) -> None:
        """The cache returns a value that was stored."""
        key = f"smoketest:{uuid.uuid4()}"  # unique to this run
        self.addCleanup(cache.delete, key)
        cache.set(key, "kept", timeout=60)
        self.assertEqual(
            cache.get(key),
            "kept",
            "The cache does not return a stored value. Check the free space and inodes of "
            f"{settings.CACHES['default']['LOCATION']}.",
        )


@tag("media")
class MediaTest(SmokeTest):
    """Tests of the media storage, which contains covers and invoices."""

    databases = ()
    maintainer = "platform"
    runbook_url = "https://wiki.example.com/runbooks/media"

    @tag("readiness")
    def test_media_folder_is_writable(self) -> None:
        """A file can be written to the media directory and read again."""
        try:
            name = default_storage.save(f"smoketest-{uuid.uuid4()}", ContentFile(b"kept"))
        except OSError as error:
            self.fail(
                f"No file can be saved in {settings.MEDIA_ROOT} ({error}). Check that its volume "
                "is mounted, writable and not full. Until then, orders have no invoices."
            )
        self.addCleanup(default_storage.delete, name)
        with default_storage.open(name) as file:
            self.assertEqual(
                file.read(),
                b"kept",
                f"A file in {settings.MEDIA_ROOT} does not contain what was written. Take the "
                "volume out of service and check its file system.",
            )

    @unittest.skipUnless(settings.MEDIA_MOUNT, "EXAMPLE_MEDIA_MOUNT is not set")
    def test_media_volume_is_mounted(self) -> None:
        """The volume for media is mounted, so files are not written to the host's own disk."""
        self.assertTrue(
            os.path.ismount(settings.MEDIA_MOUNT),
            f"The volume for media is not mounted. Run `mount {settings.MEDIA_MOUNT}`, then move "
            "the files that were written below the mount point to the volume.",
        )
