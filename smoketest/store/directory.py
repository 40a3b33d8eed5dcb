"""Where the results store and the locks live, so that all processes of a site share them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


class StateError(Exception):
    """The state folder cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class StateFolder:
    """A folder for the state of one site on one host, and the mode of the files in it."""

    path: Path
    file_mode: int

    def file(self, name: str) -> Path:
        """The path of a file, which is made, empty and with the folder's mode, if need be.

        Raises `StateError`.
        """
        path = self.path / name
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, self.file_mode)
        except FileExistsError:
            return path
        except OSError as error:
            raise StateError(advice(f"{path} cannot be written: {error.strerror}")) from error
        try:
            self._share(descriptor)
        finally:
            os.close(descriptor)
        return path

    def _share(self, descriptor: int) -> None:
        """Let those use the file who may use the folder, whoever makes it: root, or cron."""
        if hasattr(os, "fchown"):
            os.fchmod(descriptor, self.file_mode)  # the umask may have taken the group's rights
            status = self.path.stat()
            owner = status.st_uid if os.geteuid() == 0 else -1
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, owner, status.st_gid)


def open_state_folder(
    explicit: str, environment: Mapping[str, str], identity: Iterable[str]
) -> StateFolder:
    """The state folder of the site, made if need be.

    An `explicit` folder is used with the owner and the mode that it has, so that several users
    may share it by group. Without one it is a folder below ``$STATE_DIRECTORY``, which systemd
    sets, or else a private one among the temporary files, named by the user and by what
    identifies the site. Raises `StateError`.
    """
    if explicit:
        path = Path(explicit)
        _make(path, parents=True)
        return _checked(path, is_private=False)
    name = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:12]
    if state_directory := environment.get("STATE_DIRECTORY", "").partition(":")[0]:
        path = Path(state_directory, f"smoketest-{name}")
    else:
        path = Path(_temporary_folder(), f"django-smoketest-{_user()}-{name}")
    _make(path, parents=False)
    return _checked(path, is_private=True)


def _make(path: Path, *, parents: bool) -> None:
    if path.is_dir():
        return
    try:
        path.mkdir(mode=0o700, parents=parents, exist_ok=True)
    except OSError as error:
        raise StateError(advice(f"{path} cannot be made: {error.strerror}")) from error


def _checked(path: Path, *, is_private: bool) -> StateFolder:
    """The folder, if no other user can have put it, or what is in it, there."""
    try:
        status = path.stat() if not is_private else path.lstat()
    except OSError as error:
        raise StateError(advice(f"{path} cannot be read: {error.strerror}")) from error
    if not stat.S_ISDIR(status.st_mode):
        raise StateError(advice(f"{path} is not a folder"))
    if is_private and hasattr(os, "getuid"):
        if status.st_uid != os.getuid():
            raise StateError(advice(f"{path} belongs to another user"))
        if status.st_mode & 0o077:
            raise StateError(advice(f"{path} is open to other users; its mode must be 0700"))
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise StateError(advice(f"{path} cannot be written by this user"))
    is_shared = bool(status.st_mode & stat.S_IWGRP)
    return StateFolder(path, 0o660 if is_shared else 0o600)


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        raise StateError(advice("There is no folder for temporary files")) from error


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def advice(problem: str) -> str:
    """The problem, and what to do about it."""
    return (
        f"{problem}. Set SMOKETEST_STATE_DIR to a folder that every process of the site may write."
    )
