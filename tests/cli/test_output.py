"""`--output`: write a file completely or not at all."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from smoketest.cli import output
from smoketest.cli.output import OutputError
from tests.cli.site import FAILS, Run, counting


@pytest.fixture
def umask() -> Iterator[None]:
    """Set a umask other than the default."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("umask")
def test_write(tmp_path: Path) -> None:
    """The file is UTF-8 with the permissions of the umask, and no temporary file remains."""
    path = tmp_path / "junit.xml"
    output.write(path, "ü\n")
    assert path.read_bytes() == "ü\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert names(tmp_path) == ["junit.xml"]
    assert os.umask(0o027) == 0o027


def test_write__replaces(tmp_path: Path) -> None:
    """A process that has the old file open can read it to the end."""
    path = tmp_path / "junit.xml"
    path.write_text("old and long")
    with path.open() as reader:
        assert reader.read(3) == "old"
        output.write(path, "new")
        assert reader.read() == " and long"
    assert path.read_text() == "new"


def test_write__symlink(tmp_path: Path) -> None:
    """A symbolic link is preserved, and its target is written."""
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    output.write(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_write__pipe(tmp_path: Path) -> None:
    """A named pipe and `/dev/null` are written to and not replaced."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[str] = []
    reader = Thread(target=lambda: read.append(path.read_text()))
    reader.start()
    output.check(path)
    output.write(path, "new")
    reader.join()
    assert read == ["new"]
    assert path.is_fifo()
    output.write(Path(os.devnull), "new")
    assert Path(os.devnull).is_char_device()


def test_write__no_space() -> None:
    with pytest.raises(OutputError, match="/dev/full cannot be written: No space left on device"):
        output.write(Path("/dev/full"), "new")


def test_write__interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption leaves the old file unchanged and no temporary file."""
    path = tmp_path / "junit.xml"
    path.write_text("old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        output.write(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["junit.xml"]


@pytest.mark.parametrize("function", [output.check, lambda path: output.write(path, "new")])
def test_missing_directory(tmp_path: Path, function: Callable[[Path], None]) -> None:
    path = tmp_path / "missing" / "junit.xml"
    with pytest.raises(OutputError) as failure:
        function(path)
    assert str(failure.value).startswith(f"{path} cannot be written: ")
    assert str(failure.value).endswith("Choose a directory that exists and is writable.")


@pytest.mark.parametrize("function", [output.check, lambda path: output.write(path, "new")])
def test_parent_is_a_file(tmp_path: Path, function: Callable[[Path], None]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        function(tmp_path / "file" / "junit.xml")


def test_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a directory; use the path of a file"):
        output.check(tmp_path)


def test_is_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        with pytest.raises(OutputError):
            output.write(path, "new")
    assert path.is_socket()


def test_directory_not_writable() -> None:
    """A directory without write permission is reported, also when the tests run as root."""
    program = (
        "import os, sys; from pathlib import Path; from smoketest.cli import output\n"
        "if not os.getuid(): os.setgid(65534); os.setuid(65534)\n"
        "try: output.check(Path(sys.argv[1]))\n"
        "except output.OutputError as error: print(error)\n"
    )
    # pytest's temporary directory is private to the user who runs the tests.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", program, f"{name}/junit.xml"],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert "its directory does not exist or is not writable" in done.stdout


# The command


@pytest.mark.parametrize("format_name", ["text", "json", "junit", "ndjson", "prometheus"])
def test_command(run: Run, tmp_path: Path, format_name: str) -> None:
    """The file has the requested format; standard output has the text report."""
    path = tmp_path / "report"
    code, stdout, _ = run("--format", format_name, "--output", str(path), smoke=FAILS)
    assert code == 1
    assert stdout.startswith("FAIL\ntest classes: 1\n")
    content = path.read_text()
    match format_name:
        case "text":
            assert content == stdout
        case "json":
            assert json.loads(content)["status"] == "FAIL"
        case "junit":
            assert content.startswith("<?xml")
        case "ndjson":
            events = [json.loads(line)["event"] for line in content.splitlines()]
            assert events == ["start", "running", "test", "report"]
        case "prometheus":
            assert "smoketest_last_run_success 0.0" in content


@pytest.mark.parametrize("name", ["missing/report", "."])
def test_command__not_writable(run: Run, tmp_path: Path, ran: Callable[[], int], name: str) -> None:
    """The command exits with 2 before any test runs."""
    code, stdout, stderr = run("--output", str(tmp_path / name), smoke=counting(tmp_path))
    assert (code, stdout) == (2, "")
    assert stderr.startswith("CommandError: ")
    assert ran() == 0
