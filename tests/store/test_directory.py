"""The state directory: location, permissions and errors."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smoketest.store import SharedStore, StoreError
from smoketest.store.directory import StateError, StateFolder, open_state_folder
from smoketest.store.shared import FILE_NAME

IDENTITY = ("site.settings", "site.urls", "default django.db.backends.postgresql db 5432 site")
NOBODY = 65534
ADVICE = "Set SMOKETEST_STATE_DIR to a folder that every process of the site can write."

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def user(uid: int, *groups: int) -> Iterator[None]:
    """Switch to another effective user; requires root."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setresgid(uid, uid, 0)
    os.setresuid(uid, uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(before)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user can enter, unlike the temporary directories of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty directory for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def open_temporary(*identity: str) -> StateFolder:
    return open_state_folder("", {}, identity or IDENTITY)


def test_open_state_folder__explicit(tmp_path: Path) -> None:
    """A configured directory is created with its parents, accessible only to its owner."""
    path = tmp_path / "var" / "smoketest"
    with umask(0):
        folder = open_state_folder(str(path), {}, IDENTITY)
    assert folder == StateFolder(path, file_mode=0o600)
    assert mode(path) == 0o700


def test_open_state_folder__explicit_for_two_sites(tmp_path: Path) -> None:
    """Sites with the same directory never mix: the first one uses it, others a folder in it."""
    first, second = (open_state_folder(str(tmp_path), {}, [site]) for site in ("a", "b"))
    assert first.path == tmp_path
    assert second.path.parent == tmp_path
    assert mode(second.path) == mode(tmp_path)
    assert open_state_folder(str(tmp_path), {}, ["a"]) == first
    assert open_state_folder(str(tmp_path), {}, ["b"]) == second
    assert open_state_folder(str(tmp_path), {}, ["c"]).path not in {first.path, second.path}


def test_open_state_folder__explicit_precedes_systemd(tmp_path: Path) -> None:
    environment = {"STATE_DIRECTORY": str(tmp_path / "systemd")}
    assert open_state_folder(str(tmp_path), environment, IDENTITY).path == tmp_path


def test_open_state_folder__explicit_symbolic_link(tmp_path: Path) -> None:
    """A configured directory may be a symbolic link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert open_state_folder(str(tmp_path / "link"), {}, IDENTITY).path == tmp_path / "link"


@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o2770, 0o660), (0o755, 0o600)])
def test_open_state_folder__explicit_mode(tmp_path: Path, folder_mode: int, file_mode: int) -> None:
    """The mode of an existing directory is kept; group access extends to its files."""
    tmp_path.chmod(folder_mode)
    folder = open_state_folder(str(tmp_path), {}, IDENTITY)
    with umask(0o077):
        path = folder.file("results")
    assert mode(tmp_path) == folder_mode
    assert mode(path) == folder.file_mode == file_mode


@needs_root
@pytest.mark.parametrize(
    "folder_mode",
    [
        0o2770,
        0o770,
    ],
)
def test_open_state_folder__explicit_group(public: Path, folder_mode: int) -> None:
    """Members of the directory's group can write each other's files."""
    group = 2000
    os.chown(public, 0, group)
    public.chmod(folder_mode)
    with user(1001, group):
        path = open_state_folder(str(public), {}, IDENTITY).file("results")
    with user(1002, group):
        path.write_text("of the other user")
    assert path.read_text() == "of the other user"


@needs_root
def test_open_state_folder__explicit_root(public: Path) -> None:
    """A file that root creates can be written by the owner of the directory."""
    os.chown(public, 1001, 1001)
    path = open_state_folder(str(public), {}, IDENTITY).file("results")
    with user(1001):
        path.write_text("of the owner")
    assert path.read_text() == "of the owner"


@pytest.mark.parametrize("name", ["results", "run.lock"])
def test_file__symbolic_link(tmp_path: Path, name: str) -> None:
    """A link that another user has planted is not followed, whether its target exists or not."""
    folder = open_state_folder(str(tmp_path / "state"), {}, IDENTITY)
    target = tmp_path / "target"
    (folder.path / name).symlink_to(target)
    with pytest.raises(StateError, match=f"{name} is not a regular file"):
        folder.file(name)
    assert not target.exists()
    target.write_text("kept")
    with pytest.raises(StateError, match="is not a regular file"):
        folder.file(name)
    assert target.read_text() == "kept"


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_store__symbolic_link_beside_it(tmp_path: Path, suffix: str) -> None:
    """SQLite would create the target of a link in place of one of its own files."""
    folder = open_state_folder(str(tmp_path / "state"), {}, IDENTITY)
    target = tmp_path / "target"
    (folder.path / f"{FILE_NAME}{suffix}").symlink_to(target)
    with pytest.raises(StoreError, match="is not a regular file"):
        SharedStore(folder).snapshot()
    assert not target.exists()


@needs_root
def test_file__of_another_user(public: Path) -> None:
    """A file of a user who is neither the owner of the directory nor the caller is not trusted."""
    os.chown(public, 1001, 1001)
    public.chmod(0o757)
    with user(1002):
        (public / "results").touch()
    folder = open_state_folder(str(public), {}, IDENTITY)
    with pytest.raises(StateError, match="belongs to neither the owner of the folder nor this"):
        folder.file("results")


@needs_root
def test_file__of_the_owner_or_root(public: Path) -> None:
    """Root may use the store of the site, and the site may use files that root has created."""
    os.chown(public, 1001, 1001)
    folder = open_state_folder(str(public), {}, IDENTITY)
    with user(1001):
        folder.file("of-the-owner")
    (public / "of-root").touch()
    assert folder.file("of-the-owner").exists()
    with user(1001):
        assert folder.file("of-root").exists()


@pytest.mark.parametrize(
    ("mode", "is_open"), [(0o700, False), (0o775, False), (0o777, True), (0o1777, False)]
)
def test_is_open_to_everyone(tmp_path: Path, mode: int, is_open: bool) -> None:
    tmp_path.chmod(mode)
    assert open_state_folder(str(tmp_path), {}, IDENTITY).is_open_to_everyone is is_open


@pytest.mark.parametrize("below", ["", "smoketest"])
def test_open_state_folder__explicit_not_a_directory(tmp_path: Path, below: str) -> None:
    """A file in place of the directory or its parent is an error."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / below
    with pytest.raises(StateError) as caught:
        open_state_folder(str(path), {}, IDENTITY)
    assert str(caught.value).startswith(f"{path} cannot be created: ")
    assert str(caught.value).endswith(f". {ADVICE}")


@needs_root
def test_open_state_folder__explicit_not_writable(public: Path) -> None:
    with user(NOBODY), pytest.raises(StateError) as caught:
        open_state_folder(str(public), {}, IDENTITY)
    assert str(caught.value) == f"{public} cannot be written by this user. {ADVICE}"


def test_open_state_folder__removed_concurrently(tmp_path: Path) -> None:
    """A directory that is removed concurrently raises only StateError."""
    path = tmp_path / "smoketest"
    stopped = threading.Event()

    def remove() -> None:
        while not stopped.is_set():
            shutil.rmtree(path, ignore_errors=True)

    remover = threading.Thread(target=remove)
    remover.start()
    refusals = 0
    try:
        for _ in range(2000):
            try:
                open_state_folder(str(path), {}, IDENTITY)
            except StateError:
                refusals += 1
    finally:
        stopped.set()
        remover.join()
    assert refusals < 2000


def test_open_state_folder__systemd(tmp_path: Path) -> None:
    """Each site has a private directory below the first directory of STATE_DIRECTORY."""
    environment = {"STATE_DIRECTORY": f"{tmp_path}:/var/lib/other"}
    with umask(0):
        folder = open_state_folder("", environment, IDENTITY)
        file = folder.file("results")
    assert folder.path.parent == tmp_path
    assert folder.path.name.startswith("smoketest-")
    assert mode(folder.path) == 0o700
    assert mode(file) == folder.file_mode == 0o600


def test_open_state_folder__systemd_missing(tmp_path: Path) -> None:
    """The directory of systemd is not created, because its owner could be wrong."""
    with pytest.raises(StateError, match="No such file or directory"):
        open_state_folder("", {"STATE_DIRECTORY": str(tmp_path / "missing")}, IDENTITY)
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("environment", [{}, {"STATE_DIRECTORY": ""}])
def test_open_state_folder__temporary(temporary: Path, environment: dict[str, str]) -> None:
    """By default, the directory is private, in the temporary directory, named after the user id."""
    with umask(0):
        folder = open_state_folder("", environment, IDENTITY)
    assert folder.path.parent == temporary
    assert folder.path.name.startswith(f"django-smoketest-{os.getuid()}-")
    assert folder.file_mode == 0o600
    assert mode(folder.path) == 0o700


def test_open_state_folder__temporary_is_stable(temporary: Path) -> None:
    """All processes of a site use the same directory."""
    assert open_temporary() == open_temporary()
    assert len(list(temporary.iterdir())) == 1


@pytest.mark.parametrize("part", range(3))
def test_open_state_folder__temporary_of_another_site(temporary: Path, part: int) -> None:
    """Each value that identifies a site changes the directory."""
    other = [*IDENTITY]
    other[part] += "-staging"
    assert open_temporary(*other).path != open_temporary().path
    assert len(list(temporary.iterdir())) == 2


def test_open_state_folder__temporary_without_user_id(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without user ids, as on Windows, the directory is named after the user."""
    monkeypatch.delattr(os, "getuid")
    monkeypatch.setenv("USERNAME", "ada")
    folder = open_temporary()
    assert folder.path.parent == temporary
    assert folder.path.name.startswith("django-smoketest-ada-")


@needs_root
def test_open_state_folder__temporary_owner(temporary: Path) -> None:
    """A directory that another user created is rejected."""
    path = open_temporary().path
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(StateError) as caught:
        open_temporary()
    assert str(caught.value) == f"{path} belongs to another user. {ADVICE}"
    assert path.parent == temporary


@pytest.mark.usefixtures("temporary")
@pytest.mark.parametrize("open_mode", [0o770, 0o705, 0o701])
def test_open_state_folder__temporary_mode(open_mode: int) -> None:
    """A directory that other users can enter is rejected."""
    path = open_temporary().path
    path.chmod(open_mode)
    with pytest.raises(StateError) as caught:
        open_temporary()
    assert str(caught.value) == (f"{path} is open to other users; its mode must be 0700. {ADVICE}")


@pytest.mark.usefixtures("temporary")
@pytest.mark.parametrize("exists", [True, False])
def test_open_state_folder__temporary_symbolic_link(tmp_path: Path, exists: bool) -> None:
    """A symbolic link is rejected, because another user could choose its target."""
    path = open_temporary().path
    path.rmdir()
    path.symlink_to(tmp_path / "elsewhere")
    if exists:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
    with pytest.raises(StateError, match="is not a folder" if exists else "cannot be created"):
        open_temporary()
    assert (tmp_path / "elsewhere").exists() is exists


def test_open_state_folder__read_only_file_system() -> None:
    """If no directory is writable, the error explains what to do."""
    script = """
import resource, tempfile
from smoketest.store.directory import StateError, open_state_folder
tempfile.tempdir = None  # an imported library may have cached the directory
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # files cannot be written
try:
    open_state_folder("", {}, ())
except StateError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={name: value for name, value in environment.items() if "COVERAGE" not in name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ADVICE in done.stdout


def test_state_folder__file(tmp_path: Path) -> None:
    """A file is created empty; an existing file and its mode are kept."""
    folder = StateFolder(tmp_path, file_mode=0o640)
    path = folder.file("results")
    assert path.read_bytes() == b""
    assert mode(path) == 0o640
    path.write_text("kept")
    path.chmod(0o600)
    assert folder.file("results") == path
    assert path.read_text() == "kept"
    assert mode(path) == 0o600


def test_state_folder__file_in_missing_directory(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "gone", file_mode=0o600)
    with pytest.raises(StateError) as caught:
        folder.file("results")
    path = tmp_path / "gone" / "results"
    assert str(caught.value) == f"{path} cannot be written: No such file or directory. {ADVICE}"
