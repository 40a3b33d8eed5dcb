"""Tests of the storage check with S3 and the permissions of a site with least privilege."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from smoketest.contrib.essentials import storages
from tests.contrib.conftest import Essentials
from tests.contrib.essentials_site import only
from tests.servers.s3 import S3

# One worker, so that the server starts once.
pytestmark = pytest.mark.xdist_group(__name__)

READ_AND_WRITE = ("GetObject", "PutObject")


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with S3() as server:
        yield server


@pytest.fixture(autouse=True)
def _enough_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages.StorageTest, "timeout", 60)


def check(essentials: Essentials, s3: S3, **options: Any) -> tuple[str, str]:
    entries = {"default": s3.storage(**options)}
    return only(essentials("storages", STORAGES=entries, timeout=60))


def test_without_permission_to_list(essentials: Essentials, s3: S3) -> None:
    """HEAD of the deleted key is 403, which does not fail the test."""
    s3.allow(*READ_AND_WRITE, "DeleteObject")
    assert check(essentials, s3) == ("passed", "")
    assert "smoketest-" not in " ".join(s3.keys())


def test_without_permission_to_delete(essentials: Essentials, s3: S3) -> None:
    """All runs use the same object, and the message says that it remains."""
    s3.allow(*READ_AND_WRITE)
    for _ in range(3):
        outcome, message = check(essentials, s3)
        s3.allow(*READ_AND_WRITE)
        assert outcome == "skipped"
        assert message.startswith("The site may not delete files of the storage 'default', which")
        assert "stores and returns a file" in message
        assert "s3:DeleteObject" in message
    assert s3.keys() == ["smoketest.txt"]


def test_without_permission_to_list__files_are_not_overwritten(
    essentials: Essentials, s3: S3
) -> None:
    """Each upload of the site fails, because it looks for an existing file first."""
    s3.allow(*READ_AND_WRITE, "DeleteObject")
    outcome, message = check(essentials, s3, file_overwrite=False)
    assert outcome == "failed"
    assert "permission to list them, such as s3:ListBucket" in message


@pytest.mark.parametrize("allowed", [("GetObject", "DeleteObject"), ("GetObject",)])
def test_without_permission_to_write(
    essentials: Essentials, s3: S3, allowed: tuple[str, ...]
) -> None:
    s3.allow(*allowed)
    outcome, message = check(essentials, s3)
    assert outcome == "failed"
    assert message.startswith("The storage 'default' does not work: AccessDenied: ")
    assert "does the site have permission to write there?" in message
