"""Test class for a storage."""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, NoReturn

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage, storages

from smoketest.case import SmokeTest, tag
from smoketest.contrib.essentials.conf import EssentialsConf, conf
from smoketest.contrib.essentials.explain import failing

#: File and content of a storage whose files may not be deleted; the same for all runs and hosts.
_KEPT_NAME, _KEPT_CONTENT = "smoketest.txt", b"django-smoketest"


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
            f"Is {where} correct, and does the site have permission to write there? A storage that"
            " does not overwrite files also needs permission to list them, such as s3:ListBucket."
            f" {EssentialsConf.storage_folder.name} is {conf.storage_folder!r}."
        )
        with failing(f"The storage {self.alias!r} does not work", advice):
            storage = storages[self.alias]
            if isinstance(storage, FileSystemStorage) and not storage.base_location:
                self.skipTest(f"{where} has no directory: MEDIA_ROOT is not set.")
            name = posixpath.join(conf.storage_folder, f"smoketest-{secrets.token_hex(16)}.txt")
            if not _may_delete(storage, name):
                self._check_without_deleting(storage)
            content = secrets.token_hex(16).encode()
            with _cleaning_up(storage, name) as names:
                saved = _save(storage, name, content)
                names.append(saved)
                self._check_content(storage, saved, content)
                storage.delete(saved)
                self.assertFalse(
                    _is_known_to_exist(storage, saved),
                    f"The storage {self.alias!r} did not delete {saved}. Delete it manually.",
                )

    def _check_content(self, storage: Storage, name: str, content: bytes) -> None:
        self.assertEqual(
            _read(storage, name),
            content,
            f"The storage {self.alias!r} did not return the content that was written.",
        )

    def _check_without_deleting(self, storage: Storage) -> NoReturn:
        """Use the same file in each run, and skip the test if the storage works."""
        name = posixpath.join(conf.storage_folder, _KEPT_NAME)
        if storage.get_available_name(name) == name:  # new, or the storage overwrites files
            _save(storage, name, _KEPT_CONTENT)
            what = "stores and returns"
        else:
            what = "returns"
        self._check_content(storage, name, _KEPT_CONTENT)
        self.skipTest(
            f"The site may not delete files of the storage {self.alias!r}, which {what} a file."
            f" Each run uses the same file, {name}, which remains. To test deletion too, grant"
            " permission to delete smoketest-*.txt, such as s3:DeleteObject."
        )


def _may_delete(storage: Storage, name: str) -> bool:
    """Return whether the site may delete a file, by deleting one that does not exist."""
    try:
        storage.delete(name)
    except Exception as error:  # noqa: BLE001 - some storages raise for missing files
        return not _is_denied(error)
    return True


def _is_known_to_exist(storage: Storage, name: str) -> bool:
    """Return whether a file exists; False if the site may not know.

    S3 answers 403 for missing files to clients without the permission s3:ListBucket.
    """
    try:
        return storage.exists(name)
    except Exception as error:
        if _is_denied(error):
            return False
        raise


def _is_denied(error: Exception) -> bool:
    """Return whether a service answered 403, for errors of botocore, Google Cloud and Azure."""
    response = getattr(error, "response", None)
    metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    statuses = (
        metadata.get("HTTPStatusCode"),
        getattr(error, "code", None),
        getattr(error, "status_code", None),
    )
    return 403 in statuses


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
