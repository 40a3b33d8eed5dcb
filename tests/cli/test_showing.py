"""What goes to which stream, in which colours, and to readers who have had enough."""

from __future__ import annotations

import io
import json
import os
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
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


Show = Callable[..., tuple[str, str]]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """What a report that failed looks like, on streams that are terminals or not."""

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
        with screen.progress() as tell:
            tell(Started(("a", "b")))
            tell(Finished(failure))
            tell(Finished(warning))
        screen.message("Done.")
        screen.message("Not well.", is_ok=False)
        screen.show(Answer(report=make_report(failure, warning), age=0.0))
        return stdout.getvalue(), stderr.getvalue()

    return show


def test_streams(show: Show) -> None:
    """The report is on one, what happened on the way to it on the other."""
    stdout, stderr = show(stdout=io.StringIO(), stderr=io.StringIO())
    assert stdout.startswith("FAIL\ntest classes: 2\n")
    assert stdout.endswith("\n")
    assert stderr.splitlines() == [
        "Running 2 tests.",
        "failed    polls.smoke.PollsTest.test_vote (0.250 s): 1 != 2",
        "failed    a.T.test_w (0.250 s) [warning]",
        "Done.",
        "Not well.",
    ]


def test_colours(show: Show) -> None:
    """Of Django's palette."""
    stdout, stderr = show(stdout=Terminal(), stderr=Terminal())
    style = color_style(force_color=True)
    assert stdout.startswith(style.ERROR("FAIL") + "\n")
    assert style.ERROR("polls.smoke.PollsTest.test_vote failed: 1 != 2") in stdout
    lines = stderr.splitlines()
    assert lines[0] == "Running 2 tests."
    assert lines[1] == style.ERROR("failed    polls.smoke.PollsTest.test_vote (0.250 s): 1 != 2")
    assert lines[2] == style.WARNING("failed    a.T.test_w (0.250 s) [warning]")
    assert lines[4] == style.ERROR("Not well.")


def test_colours__without_them_it_is_the_same(show: Show) -> None:
    stdout, stderr = show(stdout=Terminal(), stderr=Terminal())
    plain = show(stdout=io.StringIO(), stderr=io.StringIO())
    codes = {"\x1b[31;1m", "\x1b[33;1m", "\x1b[32;1m", "\x1b[0m"}
    for code in codes:
        stdout, stderr = stdout.replace(code, ""), stderr.replace(code, "")
    assert (stdout, stderr) == plain


@pytest.mark.parametrize(
    ("options", "environment", "coloured"),
    [
        ({}, {}, (False, False)),
        ({"force_color": True}, {}, (True, True)),
        ({"force_color": True}, {"NO_COLOR": "1"}, (True, True)),
        ({"no_color": True}, {}, (False, False)),
    ],
)
def test_colours__piped(
    show: Show,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    environment: dict[str, str],
    coloured: tuple[bool, bool],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    written = show(stdout=io.StringIO(), stderr=io.StringIO(), **options)
    assert tuple("\x1b" in one for one in written) == coloured


@pytest.mark.parametrize(
    ("stdout", "stderr", "environment", "coloured"),
    [
        (Terminal, io.StringIO, {}, (True, False)),
        (io.StringIO, Terminal, {}, (False, True)),
        (Terminal, Terminal, {"NO_COLOR": "1"}, (False, False)),
        (Terminal, Terminal, {"NO_COLOR": ""}, (True, True)),
    ],
)
def test_colours__terminal(
    show: Show,
    monkeypatch: pytest.MonkeyPatch,
    stdout: type[io.StringIO],
    stderr: type[io.StringIO],
    environment: dict[str, str],
    coloured: tuple[bool, bool],
) -> None:
    """Each stream for itself; `NO_COLOR` as https://no-color.org has it."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    written = show(stdout=stdout(), stderr=stderr())
    assert tuple("\x1b" in one for one in written) == coloured


def test_verbosity__silent(show: Show) -> None:
    """`-v 0`: the report, and what is bad."""
    stdout, stderr = show(stdout=io.StringIO(), stderr=io.StringIO(), verbosity=0)
    assert stdout.startswith("FAIL\n")
    assert stderr == "Not well.\n"


def test_verbosity__gate(show: Show) -> None:
    """A gate tells of its rounds alone, and of each test with `-v 2`."""
    _, stderr = show(stdout=io.StringIO(), stderr=io.StringIO(), until_stable=30.0)
    assert stderr == "Done.\nNot well.\n"
    _, stderr = show(stdout=io.StringIO(), stderr=io.StringIO(), until_stable=30.0, verbosity=2)
    assert stderr.startswith("Running 2 tests.\n")


# The command, in a pipe


@pytest.mark.parametrize("arguments", [(), ("-v", "0")])
def test_command__silent(run: Run, arguments: tuple[str, ...]) -> None:
    """A run that passes has nothing to say with `-v 0` but its report."""
    code, stdout, stderr = run(*arguments, smoke=PASSES)
    assert code == 0
    assert stdout.startswith("PASS\n")
    assert (stderr == "") == bool(arguments)


@pytest.mark.parametrize("format_name", ["json", "ndjson", "junit", "prometheus"])
def test_command__format_alone_on_standard_output(run: Run, format_name: str) -> None:
    """For a program that reads it."""
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


#: More than the buffer of a pipe holds.
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
def test_reader_has_had_enough(site: Site, arguments: str, redirection: str) -> None:
    """Behind ``| head -1``: no word of it, all tests run, and the exit code is that of the run."""
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


def test_locale_without_all_characters(site: Site) -> None:
    """They are written as Python writes them."""
    site.smoke(FAILS.replace("'x'", "'ü 😀'"))
    process = site.start(PYTHONIOENCODING="ascii")
    assert process.wait() == 1
    assert "test_it failed: \\xfc \\U0001f600" in process.stdout


def test_write__reader_is_gone() -> None:
    """Nothing is raised, neither now nor when Python ends; what follows goes nowhere."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        wrapper = OutputWrapper(stream)
        for _ in range(3):
            write(wrapper, "x" * 100_000)
