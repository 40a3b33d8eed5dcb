"""The state folder, which contains the results store and the locks of a site."""

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
    """The state folder of a site on a host, and the mode of the files in it."""

    path: Path
    file_mode: int

    def file(self, name: str) -> Path:
        """Return the path of a file; create it empty if it does not exist. Raises `StateError`."""
        path = self.path / name
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, self.file_mode)
        except FileExistsError:
            self.check(name)
            return path
        except OSError as error:
            raise StateError(advice(f"{path} cannot be written: {error.strerror}")) from error
        try:
            self._share(descriptor)
        finally:
            os.close(descriptor)
        return path

    def check(self, name: str) -> None:
        """Raise `StateError` if the file exists and may have been planted by another user.

        A process of root would otherwise follow a symbolic link in a folder that another user can
        write, and create or change a file of its choice. Users who share the folder by group trust
        each other.
        """
        path = self.path / name
        try:
            status, folder = path.lstat(), self.path.stat()
        except OSError:
            return  # it does not exist, or the caller cannot use it either
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise StateError(
                f"{path} is not a regular file. Find out who created it, then delete it."
            )
        if not hasattr(os, "geteuid"):
            return
        is_trusted = status.st_uid in {folder.st_uid, 0, os.geteuid()}
        is_shared = folder.st_mode & stat.S_IWGRP and status.st_gid == folder.st_gid
        if not (is_trusted or is_shared):
            raise StateError(
                f"{path} belongs to neither the owner of the folder nor this user. If both users"
                " belong to this site, give the folder to a group of both, with mode 2770."
                " Otherwise, find out who created the file, then delete it."
            )

    @property
    def is_open_to_everyone(self) -> bool:
        """Whether every user of the host can replace the files in the folder."""
        mode = self.path.stat().st_mode
        return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX

    def _share(self, descriptor: int) -> None:
        """Give the users of the folder access to a file, even if root has created it."""
        if hasattr(os, "fchown"):
            os.fchmod(descriptor, self.file_mode)  # regardless of the umask
            status = self.path.stat()
            owner = status.st_uid if os.geteuid() == 0 else -1
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, owner, status.st_gid)


def open_state_folder(
    explicit: str, environment: Mapping[str, str], identity: Iterable[str]
) -> StateFolder:
    """Return the state folder of the site; create it if it does not exist.

    An `explicit` folder keeps its owner and mode, so that users may share it by group. The site
    that uses it first owns it; other sites get a folder in it, so that results never mix. Without
    an `identity`, the folder itself is returned.

    Otherwise the folder is below ``$STATE_DIRECTORY``, which systemd sets, or a private folder in
    the temporary directory; `identity`, and there also the user, determine its name.
    Raises `StateError`.
    """
    values = list(identity)
    name = hashlib.sha256("\n".join(values).encode()).hexdigest()[:12]
    if explicit:
        path = Path(explicit)
        _create(path, parents=True)
        folder = _validated(path, is_private=False)
        return folder if not values or _owner(folder, name) == name else _subfolder(folder, name)
    if state_directory := environment.get("STATE_DIRECTORY", "").partition(":")[0]:
        path = Path(state_directory, f"smoketest-{name}")
    else:
        path = Path(_temporary_folder(), f"django-smoketest-{_user()}-{name}")
    _create(path, parents=False)
    return _validated(path, is_private=True)


def _owner(folder: StateFolder, name: str) -> str:
    """Return the name of the site that has used the folder first; by default, the given one.

    It is the name of the oldest file, so the sites agree even if both start at the same time.
    """
    try:
        claims = [(file.stat().st_mtime_ns, file.stem) for file in folder.path.glob("*.site")]
        if claims:
            return min(claims)[1]
        folder.file(f"{name}.site")
    except (OSError, StateError):  # for example a full disk, which the results store reports
        pass
    return name


def _subfolder(folder: StateFolder, name: str) -> StateFolder:
    """Return a folder of another site, with the owner and mode of the folder that contains it."""
    path = folder.path / f"site-{name}"
    if not path.is_dir():
        _create(path, parents=False)
        if hasattr(os, "chown"):
            status = folder.path.stat()
            with contextlib.suppress(PermissionError):
                os.chown(path, status.st_uid if os.geteuid() == 0 else -1, status.st_gid)
                path.chmod(stat.S_IMODE(status.st_mode))
    return _validated(path, is_private=False)


def _create(path: Path, *, parents: bool) -> None:
    if path.is_dir():
        return
    try:
        path.mkdir(mode=0o700, parents=parents, exist_ok=True)
    except OSError as error:
        raise StateError(advice(f"{path} cannot be created: {error.strerror}")) from error


def _validated(path: Path, *, is_private: bool) -> StateFolder:
    """Return the folder if it is usable and, if private, accessible only to this user."""
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
    """Return a message with the problem and its solution."""
    return (
        f"{problem}. Set SMOKETEST_STATE_DIR to a folder that every process of the site can write."
    )
