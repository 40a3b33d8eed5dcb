"""Mounts with problems: a small file system, one without a server, and one whose server hangs.

They use mount(2), which requires root, and are always unmounted at the end of the context.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

import pytest

from tests.servers.services import missing

_libc = ctypes.CDLL(None, use_errno=True)
_MS_NOSUID, _MS_NODEV = 2, 4
_MNT_DETACH = 2


@contextmanager
def small_file_system(folder: Path, *, size: str = "64k", inodes: int = 16) -> Iterator[Path]:
    """Mount a tmpfs with a limited size on the folder."""
    with _mounted(folder, "tmpfs", f"size={size},nr_inodes={inodes}"):
        yield folder


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Fill the file system of the folder, and make room again at the end."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def hanging_mount(folder: Path) -> Iterator[Path]:
    """Mount a FUSE file system whose server never responds, until the end of the context."""
    with _fuse(folder):
        yield folder


@contextmanager
def stale_mount(folder: Path) -> Iterator[Path]:
    """Mount a FUSE file system whose server has crashed."""
    with _fuse(folder) as server:
        server.close()
        yield folder


def _skip(reason: str) -> None:
    """Skip the test, or fail it if it runs as root and all services are required."""
    if os.geteuid() != 0:
        pytest.skip(reason)
    missing(reason)


@contextmanager
def _fuse(folder: Path) -> Iterator[FileIO]:
    """Yield the kernel's connection to the FUSE server, from which nothing is read."""
    try:
        server = FileIO("/dev/fuse", "r+")
    except OSError as error:
        _skip(f"/dev/fuse cannot be opened: {error}")
        raise
    options = f"fd={server.fileno()},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    with server, _mounted(folder, "fuse", options):
        try:
            yield server
        finally:
            server.close()  # before unmounting, to unblock waiting callers


@contextmanager
def _mounted(folder: Path, kind: str, options: str) -> Iterator[None]:
    target = os.fsencode(folder)
    if _libc.mount(b"smoketest", target, kind.encode(), _MS_NOSUID | _MS_NODEV, options.encode()):
        code = ctypes.get_errno()
        if code not in {errno.EPERM, errno.EACCES, errno.ENODEV}:
            raise OSError(code, os.strerror(code), str(folder))
        _skip(f"{kind} cannot be mounted here: {os.strerror(code)}")
    try:
        yield
    finally:
        if _libc.umount2(target, _MNT_DETACH):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
