"""Test class for a storage."""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage, storages

from smoketest.case import SmokeTest, tag
from smoketest.contrib.essentials.conf import EssentialsConf, conf
from smoketest.contrib.essentials.explain import failing


@tag("storage")
class StorageTest(SmokeTest):
    # All databases are allowed: a storage may use any of them.
    alias: ClassVar[str]
    timeout = 10
    slow_after = 2
    every = 300  # writes may cost money, and a bucket with versioning keeps the versions

    def test_writes_reads_and_deletes(self) -> None:
        """The storage stores, returns and deletes a small file."""
        where = f"STORAGES[{self.alias!r}]"
        advice = (
            f"Is {where} correct, and does the site have permission to write there?"
            f" {EssentialsConf.storage_folder.name} is {conf.storage_folder!r}."
        )
        with failing(f"The storage {self.alias!r} does not work", advice):
            storage = storages[self.alias]
            if isinstance(storage, FileSystemStorage) and not storage.base_location:
                self.skipTest(f"{where} has no directory: MEDIA_ROOT is not set.")
            name = posixpath.join(conf.storage_folder, f"smoketest-{secrets.token_hex(16)}.txt")
            content = secrets.token_hex(16).encode()
            with _cleaning_up(storage, name) as names:
                saved = _save(storage, name, content)
                names.append(saved)
                self.assertEqual(
                    _read(storage, saved),
                    content,
                    f"The storage {self.alias!r} did not return the content that was written.",
                )
                storage.delete(saved)
                self.assertFalse(
                    storage.exists(saved),
                    f"The storage {self.alias!r} did not delete {saved}. Delete it manually.",
                )


def _save(storage: Storage, name: str, content: bytes) -> str:
    for _ in range(9):
        with suppress(FileNotFoundError):  # another host removed the directory
            return storage.save(name, ContentFile(content))
    return storage.save(name, ContentFile(content))


def _read(storage: Storage, name: str) -> bytes:
    with storage.open(name, "rb") as file:
        return bytes(file.read())


@contextmanager
def _cleaning_up(storage: Storage, name: str) -> Iterator[list[str]]:
    """Delete the file if the test fails, and the directories that were created for it.

    Yields the list of possible names of the file: a storage may choose another name.
    """
    names = [name]
    missing = _missing_folders(storage, name)
    try:
        yield names
    except BaseException:
        for one in names:
            with suppress(Exception):  # report the first error
                storage.delete(one)
        raise
    finally:
        for folder in missing:
            with suppress(OSError):  # not empty, or not created
                folder.rmdir()


def _missing_folders(storage: Storage, name: str) -> list[Path]:
    """Return the directories that saving the file will create, innermost first."""
    if not isinstance(storage, FileSystemStorage):
        return []
    missing: list[Path] = []
    for folder in Path(storage.path(name)).parents:
        if folder.exists():
            break
        missing.append(folder)
    return missing
