"""Mounts in trouble: a small file system to fill, and one whose server is gone or never answers.

They are made by mount(2), which is for root; `with` surely unmounts.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest

from tests.servers.services import missing

_libc = ctypes.CDLL(None, use_errno=True)
_MS_NOSUID, _MS_NODEV = 2, 4
_MNT_DETACH = 2


@contextmanager
def small_file_system(folder: Path, *, size: str = "64k", inodes: int = 16) -> Iterator[Path]:
    """A tmpfs on the folder, which holds so much."""
    with _mounted(folder, "tmpfs", f"size={size},nr_inodes={inodes}"):
        yield folder


@contextmanager
def hanging_mount(folder: Path) -> Iterator[Path]:
    """A FUSE file system whose server never answers; who waits for it is let go at the end."""
    with _fuse(folder):
        yield folder


@contextmanager
def stale_mount(folder: Path) -> Iterator[Path]:
    """A FUSE file system whose server is gone, as after a crash of it."""
    with _fuse(folder) as server:
        server.close()
        yield folder


def _cannot(reason: str) -> None:
    """Nobody but root can be expected to mount."""
    if os.geteuid() != 0:
        pytest.skip(reason)
    missing(reason)


@contextmanager
def _fuse(folder: Path) -> Iterator[FileIO]:
    """The connection of the kernel to the server of the file system: nobody ever reads from it."""
    try:
        server = FileIO("/dev/fuse", "r+")
    except OSError as error:
        _cannot(f"/dev/fuse cannot be opened: {error}")
        raise
    options = f"fd={server.fileno()},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    with server, _mounted(folder, "fuse", options):
        try:
            yield server
        finally:
            server.close()  # before the mount goes, so that nobody waits for it any more


@contextmanager
def _mounted(folder: Path, kind: str, options: str) -> Iterator[None]:
    target = os.fsencode(folder)
    if _libc.mount(b"smoketest", target, kind.encode(), _MS_NOSUID | _MS_NODEV, options.encode()):
        code = ctypes.get_errno()
        if code not in {errno.EPERM, errno.EACCES, errno.ENODEV}:
            raise OSError(code, os.strerror(code), str(folder))
        _cannot(f"{kind} cannot be mounted here: {os.strerror(code)}")
    try:
        yield
    finally:
        if _libc.umount2(target, _MNT_DETACH):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
