"""Output streams, colors, verbosity and broken pipes of the command."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management.base import OutputWrapper
from django.core.management.color import color_style, no_style

from smoketest.cli.arguments import parse_options
from smoketest.cli.showing import Screen, write
from smoketest.coordination.coordinator import Answer
from smoketest.management.commands.smoketest import Command
from smoketest.results import Finished, Outcome, Severity, Started
from tests.builders import make_declaration, make_report, make_result
from tests.cli.site import FAILS, PASSES, Run, Site


class Terminal(io.StringIO):
    """A stream that reports itself as a terminal."""

    def isatty(self) -> bool:
        return True


Show = Callable[..., tuple[str, str]]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Write a failing report to the given streams and return what they contain."""

    def show(*, stdout: io.StringIO, stderr: io.StringIO, **changes: Any) -> tuple[str, str]:
        monkeypatch.setattr("smoketest.cli.showing.HAS_RICH", False)
        parser = Command().create_parser("manage.py", "smoketest")
        options = vars(parser.parse_args([])) | changes
        style = no_style() if options["no_color"] else color_style(force_color=True)
        screen = Screen(OutputWrapper(stdout), OutputWrapper(stderr), style, parse_options(options))
        warning = make_result(
            Outcome.FAILED, make_declaration("a.T.test_w", severity=Severity.WARNING)
        )
        failure = make_result(Outcome.FAILED, message="1 != 2")
        with screen.progress() as write_event:
            write_event(Started(("a", "b")))
            write_event(Finished(failure))
            write_event(Finished(warning))
        screen.message("Done.")
        screen.message("Not well.", is_ok=False)
        screen.show(Answer(report=make_report(failure, warning), age=0.0))
        return stdout.getvalue(), stderr.getvalue()

    return show


def test_streams(show: Show) -> None:
    """The report goes to standard output, progress and messages to standard error."""
    stdout, stderr = show(stdout=io.StringIO(), stderr=io.StringIO())
    assert stdout.startswith("FAIL\ntest classes: 2\n")
    assert stdout.endswith("\n")
    assert stderr.splitlines() == [
        "Running 2 tests.",
        "failed    polls.smoke.PollsTest.test_vote (0.250 s)",
        "failed    a.T.test_w (0.250 s) [warning]",
        "Done.",
        "Not well.",
    ]


def test_colors(show: Show) -> None:
    """The colors are those of Django's palette."""
    stdout, stderr = show(stdout=Terminal(), stderr=Terminal())
    style = color_style(force_color=True)
    assert stdout.startswith(style.ERROR("FAIL (1 warning)") + "\n")
    assert style.ERROR("polls.smoke.PollsTest.test_vote failed: 1 != 2") in stdout
    lines = stderr.splitlines()
    assert lines[0] == "Running 2 tests."
    assert lines[1] == style.ERROR("failed    polls.smoke.PollsTest.test_vote (0.250 s)")
    assert lines[2] == style.WARNING("failed    a.T.test_w (0.250 s) [warning]")
    assert lines[4] == style.ERROR("Not well.")


def test_colors__same_text_as_without(show: Show) -> None:
    stdout, stderr = show(stdout=Terminal(), stderr=Terminal())
    plain = show(stdout=io.StringIO(), stderr=io.StringIO())
    codes = {"\x1b[31;1m", "\x1b[33;1m", "\x1b[32;1m", "\x1b[0m"}
    for code in codes:
        stdout, stderr = stdout.replace(code, ""), stderr.replace(code, "")
    assert (stdout.replace(" (1 warning)", "", 1), stderr) == plain


@pytest.mark.parametrize(
    ("options", "environment", "has_color"),
    [
        ({}, {}, (False, False)),
        ({"force_color": True}, {}, (True, True)),
        ({"force_color": True}, {"NO_COLOR": "1"}, (True, True)),
        ({"no_color": True}, {}, (False, False)),
    ],
)
def test_colors__piped(
    show: Show,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    environment: dict[str, str],
    has_color: tuple[bool, bool],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    written = show(stdout=io.StringIO(), stderr=io.StringIO(), **options)
    assert tuple("\x1b" in one for one in written) == has_color


@pytest.mark.parametrize(
    ("stdout", "stderr", "environment", "has_color"),
    [
        (Terminal, io.StringIO, {}, (True, False)),
        (io.StringIO, Terminal, {}, (False, True)),
        (Terminal, Terminal, {"NO_COLOR": "1"}, (False, False)),
        (Terminal, Terminal, {"NO_COLOR": ""}, (True, True)),
    ],
)
def test_colors__terminal(
    show: Show,
    monkeypatch: pytest.MonkeyPatch,
    stdout: type[io.StringIO],
    stderr: type[io.StringIO],
    environment: dict[str, str],
    has_color: tuple[bool, bool],
) -> None:
    """Each stream is checked separately; NO_COLOR follows https://no-color.org."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    written = show(stdout=stdout(), stderr=stderr())
    assert tuple("\x1b" in one for one in written) == has_color


def test_verbosity__0(show: Show) -> None:
    """Only the report and errors are printed."""
    stdout, stderr = show(stdout=io.StringIO(), stderr=io.StringIO(), verbosity=0)
    assert stdout.startswith("FAIL\n")
    assert stderr == "Not well.\n"


def test_verbosity__until_stable(show: Show) -> None:
    """--until-stable prints a line for each run, and for each test only with `-v 2`."""
    _, stderr = show(stdout=io.StringIO(), stderr=io.StringIO(), until_stable=30.0)
    assert stderr == "Done.\nNot well.\n"
    _, stderr = show(stdout=io.StringIO(), stderr=io.StringIO(), until_stable=30.0, verbosity=2)
    assert stderr.startswith("Running 2 tests.\n")


# The command with piped output


@pytest.mark.parametrize("arguments", [(), ("-v", "0")])
def test_command__verbosity_0(run: Run, arguments: tuple[str, ...]) -> None:
    """With `-v 0`, a passing run prints only its report."""
    code, stdout, stderr = run(*arguments, smoke=PASSES)
    assert code == 0
    assert stdout.startswith("PASS\n")
    assert (stderr == "") == bool(arguments)


@pytest.mark.parametrize("format_name", ["json", "ndjson", "junit", "prometheus"])
def test_command__format_on_standard_output(run: Run, format_name: str) -> None:
    """Standard output contains only the formatted report, so that a program can parse it."""
    code, stdout, _ = run("--format", format_name, smoke=FAILS)
    assert code == 1
    match format_name:
        case "json":
            assert json.loads(stdout)["results"][0]["traceback"]
        case "ndjson":
            events = [json.loads(line)["event"] for line in stdout.splitlines()]
            assert events == ["start", "running", "test", "report"]
        case "junit":
            assert stdout.startswith("<?xml")
        case "prometheus":
            assert stdout.startswith("# HELP ")


#: Longer than the buffer of a pipe.
LONG = """
class T(SmokeTest):
    def test_1(self):
        time.sleep(0.3)
    def test_2(self):
        self.fail("x" * 500_000)
    def test_3(self):
        pass
"""
MANY = LONG + "".join(f"    def test_{n}(self):\n        pass\n" for n in range(10_000, 14_000))


@pytest.mark.parametrize(
    ("arguments", "redirection"),
    [
        ("", "2>errors"),
        ("", "2>&1"),
        ("--format json", "2>errors"),
        ("--format ndjson", "2>errors"),
        ("--format ndjson", "2>&1"),
        ("--format ndjson --workers 0", "2>errors"),
        ("--list", "2>errors"),
    ],
)
def test_broken_pipe(site: Site, arguments: str, redirection: str) -> None:
    """With ``| head``, all tests run, the exit code is unchanged and no error is printed."""
    site.smoke(MANY if arguments == "--list" else LONG)
    command = f"{sys.executable} -m django smoketest {arguments} {redirection} | head -c 10"
    done = subprocess.run(
        ["bash", "-c", f"{command}; code=${{PIPESTATUS[0]}}; echo; echo $code"],
        cwd=site.folder, env=site.environment() | {"PYTHONUNBUFFERED": ""},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == ("0" if arguments == "--list" else "1")
    assert done.stderr == ""
    if redirection == "2>errors":
        errors = (site.folder / "errors").read_text()
        assert "Traceback" not in errors
        assert "BrokenPipeError" not in errors
    if arguments != "--list":
        code, stdout, _ = site.run("--list", "--failed")
        assert (code, stdout) == (0, "shop.smoke.T.test_2\n")


def test_encoding_errors(site: Site) -> None:
    """Characters that the encoding of the stream lacks are escaped."""
    site.smoke(FAILS.replace("'x'", "'ü 😀'"))
    process = site.start(PYTHONIOENCODING="ascii")
    assert process.wait() == 1
    assert "test_it failed: \\xfc \\U0001f600" in process.stdout


def test_write__broken_pipe() -> None:
    """Writing to a broken pipe raises nothing, also when the stream is flushed at exit."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        wrapper = OutputWrapper(stream)
        for _ in range(3):
            write(wrapper, "x" * 100_000)


TRACEBACKS = """
class T(SmokeTest):
    def test_fails(self):
        self.helper()

    def helper(self):
        raise ValueError("in a helper")
"""


@pytest.mark.parametrize("option", [["--traceback"], ["-v", "2"], []])
def test_tracebacks(run: Run, option: list[str]) -> None:
    """The traceback has only frames of the site; without the option, there is its last line."""
    code, stdout, stderr = run(*option, smoke=TRACEBACKS)
    assert code == 1
    assert "Traceback" not in stdout
    assert re.search(r"test_fails \(.* s\) at .*app0/smoke.py:\d+\n", stderr)
    assert ("app0.smoke.T.test_fails errored:\nTraceback (most recent" in stderr) == bool(option)
    assert stderr.count('app0/smoke.py", line') == 2 * bool(option)
    assert "unittest" not in stderr


@pytest.mark.parametrize("format_name", ["text", "json", "ndjson"])
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_unwritable_output(site: Site, format_name: str, redirection: str) -> None:
    """The exit code is 2, the message says why, and the run is recorded."""
    code, stderr = _run_redirected(site, f"--format {format_name}", redirection)
    assert code == 2
    assert "CommandError: The output cannot be written: " in stderr
    assert "Traceback" not in stderr
    assert "smoketest_test_success" in site.run("--format", "prometheus")[1]


def test_unwritable_errors(site: Site) -> None:
    """Progress that cannot be written does not change the result."""
    assert _run_redirected(site, "", "2>/dev/full")[0] == 0


def _run_redirected(site: Site, arguments: str, redirection: str) -> tuple[int, str]:
    command = f"{sys.executable} -m django smoketest {arguments} {redirection}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=site.folder,
        env=site.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    return done.returncode, done.stderr
