"""The command on a pseudo-terminal, with and without rich, and in a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cli.site import FAILS, HANGS, PASSES, Site

HAS_RICH = importlib.util.find_spec("rich") is not None
needs_rich = pytest.mark.skipif(not HAS_RICH, reason="rich is not installed")

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
RED, GREEN = "\x1b[31;1m", "\x1b[32;1m"  # of Django's palette
#: A color, alone or combined with other attributes.
COLOR = re.compile(r"\x1b\[(?:[0-9]+;)*[39][0-7](?:;[0-9]+)*m")

#: Seconds within which an interrupted command ends: far below the 60 s of `HANGS`.
PROMPT = 30

#: One test fails and one passes; two run until the file exists.
SEVERAL = """
import os

def hang():
    while not os.path.exists("go"):
        time.sleep(0.05)

class A(SmokeTest):
    def test_fails(self):
        self.fail("the first to fail")

    def test_passes(self):
        pass

class B(SmokeTest):
    timeout = 60
    def test_hangs(self):
        hang()

class C(SmokeTest):
    timeout = 60
    def test_hangs_too(self):
        hang()
"""


class Terminal:
    """A pseudo-terminal and a command, of whose streams one may be piped to a file."""

    def __init__(
        self, site: Site, *arguments: str, piped: str = "", columns: int = 100, **environment: str
    ) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.piped = site.folder / "piped"
        variables = {"TERM": "xterm-256color", "LANG": "C.UTF-8", **environment}
        unset = {"NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "CI"}
        kept = {name: value for name, value in site.environment().items() if name not in unset}
        with self.piped.open("wb") as file:
            streams: dict[str, Any] = {"stdout": slave, "stderr": slave}
            if piped:
                streams[piped] = file
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "django", "smoketest", *arguments],
                stdin=slave, cwd=site.folder, env=kept | variables, start_new_session=True,
                **streams,
            )  # fmt: skip
        self.slave = slave
        self.text = ""

    def read(self, within: float) -> bool:
        """Read what is available; return whether there was anything."""
        if not select.select([self.master], [], [], within)[0]:
            return False
        self.text += os.read(self.master, 65536).decode(errors="replace")
        return True

    def wait_for(self, pattern: str) -> None:
        deadline = time.monotonic() + 60
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.text!r}"
            self.read(0.1)

    def wait(self, *, within: float = 60) -> int:
        """Read the output to its end and return the exit code."""
        deadline = time.monotonic() + within
        while self.popen.poll() is None:
            assert time.monotonic() < deadline, self.text
            self.read(0.05)
        while self.read(0.05):
            pass
        return self.popen.returncode

    @property
    def lines(self) -> list[str]:
        """The output without escape codes."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.text).splitlines()

    @property
    def is_restored(self) -> bool:
        """Whether the terminal modes are as before and the cursor is visible."""
        is_shown = self.text.rfind(HIDE_CURSOR) <= self.text.rfind(SHOW_CURSOR)
        return is_shown and termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()
        os.close(self.master)
        os.close(self.slave)


Start = Callable[..., Terminal]


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Start the command on a terminal."""
    opened: list[Terminal] = []

    def start(*arguments: str, **options: Any) -> Terminal:
        opened.append(Terminal(site, *arguments, **options))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


@pytest.fixture
def without_rich(site: Site) -> None:
    """Make `import rich` fail on the site."""
    (site.folder / "rich").mkdir()
    (site.folder / "rich" / "__init__.py").write_text("raise ImportError('out of order')")


# With rich


@needs_rich
def test_live(site: Site, start: Start) -> None:
    """Show progress, running tests and failures during the run, then the report."""
    site.smoke(SEVERAL)
    began = time.monotonic()
    terminal = start()
    terminal.wait_for("the first to fail")
    assert "FAIL\r\n" not in terminal.text  # the failure is shown during the run
    terminal.wait_for("2 of 4 tests")
    for test in ("B.test_hangs", "C.test_hangs_too"):
        terminal.wait_for(rf"[1-9][0-9]*\.[0-9] s[^\n]* shop\.smoke\.{test}\b")
        shown = re.findall(rf"([0-9]+\.[0-9]) s[^\n]* shop\.smoke\.{test}\b", terminal.text)
        times = [float(seconds) for seconds in shown]
        assert times == sorted(times)
        assert times[-1] < time.monotonic() - began
    assert HIDE_CURSOR in terminal.text
    (site.folder / "go").touch()
    assert terminal.wait() == 1
    assert terminal.is_restored
    failure = "failed    shop.smoke.A.test_fails "
    assert sum(failure in line for line in terminal.lines) == 1
    end = terminal.text.rpartition(SHOW_CURSOR)[2]
    assert "FAIL" in end
    assert "tests run: 4" in end
    assert "of 4 tests" not in end


@needs_rich
def test_live__passes(start: Start) -> None:
    terminal = start()
    assert terminal.wait() == 0
    assert terminal.is_restored
    assert f"{GREEN}PASS" in terminal.text


@needs_rich
@pytest.mark.parametrize("workers", ["4", "0"])
def test_live__interrupted(site: Site, start: Start, workers: str) -> None:
    """After SIGINT, the terminal is restored and the completed results are printed."""
    site.smoke(HANGS.replace('print("hanging", flush=True)', "pass"))
    terminal = start("--workers", workers)
    terminal.wait_for(r"[1-9] s.* shop\.smoke\.T\.test_it")
    os.killpg(terminal.popen.pid, signal.SIGINT)
    assert terminal.wait(within=PROMPT) == 130
    assert terminal.is_restored
    assert "tests not run: 1" in terminal.lines
    assert "Traceback" not in terminal.text


@needs_rich
def test_live__terminated(site: Site, start: Start) -> None:
    site.smoke(HANGS)
    terminal = start()
    terminal.wait_for("hanging")
    terminal.popen.send_signal(signal.SIGTERM)
    assert terminal.wait(within=PROMPT) == 143
    assert terminal.is_restored


@needs_rich
def test_live__interrupted_while_waiting(site: Site, start: Start) -> None:
    """SIGINT while the command waits for another run restores the terminal."""
    site.smoke(HANGS)
    other = site.start()
    other.wait_for("hanging")
    terminal = start()
    terminal.wait_for("Another run is in progress; waiting for it")
    os.killpg(terminal.popen.pid, signal.SIGINT)
    assert terminal.wait(within=PROMPT) == 130
    assert terminal.is_restored


@needs_rich
def test_live__fixture_fails(site: Site, start: Start) -> None:
    """A fixture error is not counted as a test, and the display stays until all tests end."""
    fixture = "\n    @classmethod\n    def tearDownClass(cls):\n        raise RuntimeError\n"
    hang = SEVERAL.partition("class A")[0]
    slow = "class U(SmokeTest):\n    timeout = 60\n    def test_slow(self):\n        hang()\n"
    site.smoke(hang + PASSES + fixture + slow)
    terminal = start()
    terminal.wait_for(r"tearDownClass[\s\S]*1 of 2 tests[\s\S]*shop\.smoke\.U\.test_slow")
    (site.folder / "go").touch()
    assert terminal.wait() == 1
    assert "3 of" not in terminal.text


@needs_rich
def test_live__until_stable(start: Start) -> None:
    """Each round leaves a line on the terminal."""
    terminal = start("--until-stable", "0.5s", "--deadline", "60s")
    assert terminal.wait() == 0
    rounds = [line for line in terminal.lines if "PASS, 1 tests in" in line]
    assert len(rounds) == 2
    assert terminal.is_restored


@needs_rich
def test_live__markup_in_message(site: Site, start: Start) -> None:
    """Rich markup in a message is printed literally."""
    site.smoke(FAILS.replace("'x'", "'[red]no[/red] [link=x] :smile:'"))
    terminal = start()
    assert terminal.wait() == 1
    shown = [line for line in terminal.lines if "[red]no[/red] [link=x] :smile:" in line]
    assert "failed    shop.smoke.T.test_it" in shown[0]  # it may replace a line of the display
    assert shown[-1] == "shop.smoke.T.test_it failed: [red]no[/red] [link=x] :smile:"


@needs_rich
def test_live__piped_report(start: Start) -> None:
    """The display is on the terminal, and only the report is in the file."""
    terminal = start("--format", "json", piped="stdout")
    assert terminal.wait() == 0
    assert HIDE_CURSOR in terminal.text
    assert json.loads(terminal.piped.read_text())["status"] == "PASS"


# Without rich


def is_plain(terminal: Terminal) -> bool:
    return HIDE_CURSOR not in terminal.text and "\x1b[2K" not in terminal.text


@pytest.mark.usefixtures("without_rich")
def test_lines(site: Site, start: Start) -> None:
    """If rich cannot be imported, a line in color is printed for each test as it ends."""
    site.smoke(SEVERAL)
    terminal = start()
    terminal.wait_for(re.escape(RED) + "failed    shop.smoke.A.test_fails")
    assert "FAIL\r\n" not in terminal.text
    (site.folder / "go").touch()
    assert terminal.wait() == 1
    assert is_plain(terminal)
    assert terminal.lines[0] == "Running 4 tests."
    assert f"{RED}FAIL" in terminal.text


@pytest.mark.usefixtures("without_rich")
def test_lines__interrupted(site: Site, start: Start) -> None:
    site.smoke(HANGS)
    terminal = start()
    terminal.wait_for("hanging")
    os.killpg(terminal.popen.pid, signal.SIGINT)
    assert terminal.wait(within=PROMPT) == 130
    assert terminal.is_restored


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_lines__dumb_terminal(start: Start, term: str) -> None:
    """A terminal that cannot move its cursor gets plain lines."""
    terminal = start(TERM=term)
    assert terminal.wait() == 0
    assert is_plain(terminal)
    assert "Running 1 test." in terminal.lines


def test_verbosity_0(start: Start) -> None:
    """Only the report is printed, without a live display."""
    terminal = start("-v", "0")
    assert terminal.wait() == 0
    assert is_plain(terminal)
    assert terminal.lines[0] == "PASS"


# Colors


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--no-color"], {}),
        ([], {"NO_COLOR": "1"}),
        ([], {"DJANGO_COLORS": "nocolor"}),
    ],
)
def test_colors__disabled(
    site: Site, start: Start, arguments: list[str], environment: dict[str, str]
) -> None:
    """Neither the report nor the progress has colors."""
    site.smoke(FAILS)
    terminal = start(*arguments, **environment)
    assert terminal.wait() == 1
    assert "FAIL" in terminal.lines
    assert not COLOR.search(terminal.text)


def test_colors(site: Site, start: Start) -> None:
    site.smoke(FAILS)
    terminal = start()
    assert terminal.wait() == 1
    assert f"{RED}FAIL" in terminal.text


@pytest.mark.parametrize("piped", ["stdout", "stderr"])
def test_colors__piped(site: Site, start: Start, piped: str) -> None:
    """A piped stream has no escape codes."""
    site.smoke(FAILS)
    terminal = start(piped=piped)
    assert terminal.wait() == 1
    content = terminal.piped.read_text()
    assert "\x1b" not in content
    assert ("tests failed: 1" in content) == (piped == "stdout")
    assert ("Running 1 test." in content) == (piped == "stderr")
    assert ("FAIL" in terminal.lines) == (piped == "stderr")
    assert (f"{RED}FAIL" in terminal.text) == (piped == "stderr")


def test_colors__all_piped(site: Site) -> None:
    site.smoke(FAILS)
    for arguments in ((), ("--nonsense",), ("no.such.test",)):
        _, stdout, stderr = site.run(*arguments)
        assert "\x1b" not in stdout + stderr


def test_colors__forced(site: Site) -> None:
    """--force-color adds colors to piped text output but not to other formats."""
    site.smoke(FAILS)
    code, stdout, stderr = site.run("--force-color")
    assert code == 1
    assert f"{RED}FAIL" in stdout
    assert f"{RED}failed" in stderr
    assert HIDE_CURSOR not in stderr
    assert json.loads(site.run("--force-color", "--format", "json")[1])["status"] == "FAIL"


def test_report__terminal_and_pipe_are_equal(site: Site, start: Start) -> None:
    """The text of the report does not depend on the stream."""
    site.smoke(FAILS)
    terminal = start(piped="stderr")
    terminal.wait()
    _, stdout, _ = site.run()

    def timeless(lines: list[str]) -> list[str]:
        return [line for line in lines if not line.startswith("time: ")]

    assert timeless(terminal.lines) == timeless(stdout.splitlines())
