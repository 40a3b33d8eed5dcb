"""Storages: they keep a file, and delete it."""

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
    # Every database: a storage may be a table.
    alias: ClassVar[str]
    timeout = 10
    slow_after = 2
    every = 300  # such a file costs money, and in a bucket with versions each leaves two

    def test_writes_reads_and_deletes(self) -> None:
        """The storage keeps a small file of a random name, gives it back, and deletes it."""
        where = f"STORAGES[{self.alias!r}]"
        advice = (
            f"Is {where} right, and may the site write there? {EssentialsConf.storage_folder.name}"
            f" is {conf.storage_folder!r}."
        )
        with failing(f"The storage {self.alias!r} does not work", advice):
            storage = storages[self.alias]
            if isinstance(storage, FileSystemStorage) and not storage.base_location:
                self.skipTest(f"{where} has no folder: MEDIA_ROOT is not set.")
            name = posixpath.join(conf.storage_folder, f"smoketest-{secrets.token_hex(16)}.txt")
            content = secrets.token_hex(16).encode()
            with _nothing_left(storage, name) as names:
                saved = _save(storage, name, content)
                names.append(saved)
                self.assertEqual(
                    _read(storage, saved),
                    content,
                    f"The storage {self.alias!r} gave back another file than was written.",
                )
                storage.delete(saved)
                self.assertFalse(
                    storage.exists(saved),
                    f"The storage {self.alias!r} did not delete {saved}. Delete it by hand.",
                )


def _save(storage: Storage, name: str, content: bytes) -> str:
    for _ in range(9):
        with suppress(FileNotFoundError):  # the test of another host took the folder away
            return storage.save(name, ContentFile(content))
    return storage.save(name, ContentFile(content))


def _read(storage: Storage, name: str) -> bytes:
    with storage.open(name, "rb") as file:
        return bytes(file.read())


@contextmanager
def _nothing_left(storage: Storage, name: str) -> Iterator[list[str]]:
    """Delete the file if the test fails half way, and the folders that were made for it.

    Gives the names that the file may have; a storage may choose another than it was given.
    """
    names = [name]
    missing = _missing_folders(storage, name)
    try:
        yield names
    except BaseException:
        for one in names:
            with suppress(Exception):  # what went wrong first is what to tell
                storage.delete(one)
        raise
    finally:
        for folder in missing:
            with suppress(OSError):  # somebody uses it by now, or it was never made
                folder.rmdir()


def _missing_folders(storage: Storage, name: str) -> list[Path]:
    """The folders that saving will make, innermost first."""
    if not isinstance(storage, FileSystemStorage):
        return []
    missing: list[Path] = []
    for folder in Path(storage.path(name)).parents:
        if folder.exists():
            break
        missing.append(folder)
    return missing
