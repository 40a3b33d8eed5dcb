"""Options of ``manage.py smoketest``, their help and their validation."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from django.core.management.base import CommandError, CommandParser, DjangoHelpFormatter

from smoketest.cli.exits import Exit
from smoketest.cli.remote import check_url
from smoketest.formats import COMMAND_FORMATS, TEXT
from smoketest.results import Selection
from smoketest.validators import did_you_mean, parse_duration, suggest

JOB = "smoketest"
PASSWORD_VARIABLE = "SMOKETEST_PUSHGATEWAY_PASSWORD"  # noqa: S105 - the name of a variable
TOKEN_VARIABLE = "SMOKETEST_TOKEN"  # noqa: S105 - the name of a variable
#: Value of `--format` for the stored results as metrics.
PROMETHEUS = "prometheus"
FORMATS = (*COMMAND_FORMATS, PROMETHEUS)
#: Formats that `--list` supports.
LIST_FORMATS = ("text", "json")
#: Default of `--deadline`, in seconds.
DEADLINE = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the command; durations are in seconds."""

    names: Sequence[str]
    tag: Sequence[str]
    exclude_tag: Sequence[str]
    pattern: Sequence[str]
    failed: bool
    list: bool
    failfast: bool
    workers: int | None
    timeout: float | None
    run_timeout: float | None
    no_store: bool
    #: One of `FORMATS`.
    format: str
    output: Path | None
    until_stable: float | None
    deadline: float | None
    url: str | None
    token: str
    textfile: Path | None
    pushgateway: str | None
    job: str
    grouping: Sequence[tuple[str, str]] | None
    pushgateway_user: str
    delete_on_exit: bool
    every: float | None
    #: Host and port.
    serve: tuple[str, int] | None
    certificate: Path | None
    key: Path | None
    pause: float | None
    reason: str
    resume: bool
    #: Options of Django.
    verbosity: int
    traceback: bool
    skip_checks: bool
    force_color: bool

    @property
    def selection(self) -> Selection:
        """The named tests and tags; `-k` and `--failed` narrow it further."""
        return Selection(
            names=tuple(dict.fromkeys(self.names)),
            tags=tuple(dict.fromkeys(self.tag)),
            excluded_tags=tuple(dict.fromkeys(self.exclude_tag)),
        )


DESCRIPTION = """\
Run the smoke tests of the site, each in a database transaction that is rolled
back, and print the report."""
EPILOG = """\
examples:
  manage.py smoketest                                 run all tests
  manage.py smoketest shop.smoke.OrderTest            run the tests of a class
  manage.py smoketest -k order --tag readiness        run some tests
  manage.py smoketest --failed --traceback            run failed tests, with tracebacks
  manage.py smoketest --until-stable 30s              wait for a healthy site
  manage.py smoketest --url https://shop.example.com/smoketest/
  manage.py smoketest --format junit --output smoke.xml

exit codes:
  0    no critical test failed
  1    a critical test failed, or the site did not respond
  2    an option or a setting is invalid, or a file cannot be written
  3    no test was selected
  4    a deadline was reached
  130  interrupted by Ctrl-C (SIGINT)
  143  terminated by SIGTERM"""


class HelpFormatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Django's formatter, which keeps the line breaks of the description and the epilog."""


class Parser(CommandParser):
    """A parser that prints an error before the usage, and suggests options."""

    def error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            unknown = message.removeprefix(prefix).split()[0].partition("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            abbreviated = suggest([option for option in known if option.startswith(unknown)])
            suggestion = abbreviated or did_you_mean(unknown, known)
            message = f"unknown argument {unknown}. {suggestion}".rstrip()
        if self.called_from_command_line:
            self.exit(int(Exit.USAGE), f"{self.prog}: error: {message}\n\n{self.format_usage()}")
        raise CommandError(message, returncode=Exit.USAGE)


def parse_options(options: Mapping[str, Any]) -> Options:
    """Return the options of Django's command framework. Raise `CommandError`."""
    refuse_wrong_combinations(options)
    return Options(**{field.name: options[field.name] for field in fields(Options)})


def add_arguments(parser: CommandParser) -> None:
    selection = parser.add_argument_group("selection options")
    selection.add_argument(
        "names",
        nargs="*",
        type=_name,
        metavar="ID",
        help="select a test, class, module or package by its dotted name, such as"
        " shop.smoke.OrderTest or shop.smoke",
    )
    selection.add_argument(
        "-k",
        action="append",
        dest="pattern",
        type=_name,
        default=[],
        metavar="PATTERN",
        help="select tests whose ids contain the pattern, in which * matches any text (repeatable)",
    )
    selection.add_argument(
        "--tag",
        action="append",
        type=_name,
        default=[],
        help="select tests that have this tag (repeatable)",
    )
    selection.add_argument(
        "--exclude-tag",
        action="append",
        type=_name,
        default=[],
        metavar="TAG",
        help="skip tests that have this tag (repeatable)",
    )
    selection.add_argument(
        "--failed", action="store_true", help="select tests that failed when they last ran"
    )
    selection.add_argument(
        "--list", action="store_true", help="print the selected tests without running them"
    )
    run = parser.add_argument_group("run options")
    run.add_argument(
        "--failfast", action="store_true", help="start no more tests after a critical test fails"
    )
    run.add_argument(
        "--workers",
        type=_count,
        metavar="N",
        help="number of threads (default: SMOKETEST_WORKERS)",
    )
    run.add_argument(
        "--timeout",
        type=_duration,
        metavar="DURATION",
        help="default timeout of a test, such as 5s (default: SMOKETEST_TIMEOUT)",
    )
    run.add_argument(
        "--run-timeout",
        type=_duration,
        metavar="DURATION",
        help="deadline of the run (default: SMOKETEST_RUN_TIMEOUT); with --url, of the response"
        " (default: 60s)",
    )
    run.add_argument("--no-store", action="store_true", help="do not store the results")
    output = parser.add_argument_group("output options")
    output.add_argument(
        "--format",
        type=_format,
        default=TEXT.name,
        metavar=f"{{{','.join(FORMATS)}}}",
        help="report format (default: %(default)s)",
    )
    output.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the report to FILE in the --format, and print it as text",
    )
    deployment = parser.add_argument_group("deployment options")
    deployment.add_argument(
        "--until-stable",
        type=_duration,
        metavar="DURATION",
        help="run repeatedly until all critical tests have passed for this time",
    )
    deployment.add_argument(
        "--deadline",
        type=_duration,
        metavar="DURATION",
        help=f"with --until-stable: maximum total time (default: {DEADLINE:g}s)",
    )
    deployment.add_argument(
        "--url",
        type=_url,
        help="run the tests on a deployed site, by the URL of its smoke test page",
    )
    deployment.add_argument(
        "--token",
        default="",
        help=f"with --url: one of the SMOKETEST_TOKENS of the site; prefer the environment variable"
        f" {TOKEN_VARIABLE}",
    )
    export = parser.add_argument_group("metrics options")
    export.add_argument(
        "--textfile", type=Path, metavar="PATH", help="write a .prom file for node_exporter"
    )
    export.add_argument("--pushgateway", metavar="URL", help="push the metrics to a Pushgateway")
    export.add_argument("--job", default=JOB, help="job label of the push (default: %(default)s)")
    export.add_argument(
        "--grouping",
        action="append",
        type=_key_and_value,
        metavar="KEY=VALUE",
        help="grouping label of the push (repeatable; default: instance=HOSTNAME); with"
        " SMOKETEST_PROJECT, django_project is added",
    )
    export.add_argument(
        "--pushgateway-user",
        default="",
        metavar="NAME",
        help="user name for the Pushgateway; set the password in the environment variable"
        f" {PASSWORD_VARIABLE}",
    )
    export.add_argument(
        "--delete-on-exit",
        action="store_true",
        help="with --every: delete the pushed metrics when SIGTERM or Ctrl-C ends the command",
    )
    regular = parser.add_argument_group("regular runs")
    regular.add_argument(
        "--every",
        type=_duration,
        metavar="DURATION",
        help="run all tests at this interval, such as 60s",
    )
    regular.add_argument(
        "--serve",
        type=_address,
        metavar="[HOST:]PORT",
        help="with --every: serve /metrics on this port (default HOST: all IPv4 addresses;"
        " [::] for all addresses)",
    )
    regular.add_argument("--certificate", type=Path, metavar="FILE", help="certificate for TLS")
    regular.add_argument("--key", type=Path, metavar="FILE", help="private key for TLS")
    pause = parser.add_argument_group("pausing runs")
    pause.add_argument(
        "--pause", type=_duration, metavar="DURATION", help="pause runs on this host for this time"
    )
    pause.add_argument(
        "--reason", default="", help="reason of the pause, displayed with the results"
    )
    pause.add_argument("--resume", action="store_true", help="end the pause")


def refuse_wrong_combinations(options: Mapping[str, Any]) -> None:
    """Raise `CommandError` if options contradict each other or would be ignored."""
    given = _Given(options)
    selecting = {"names", "pattern", "tag", "exclude_tag", "failed", "failfast", "list"}
    of_one_run = {"no_store", "format", "output", "until_stable", "url"}
    exports = {"textfile", "pushgateway"}
    runs = {*selecting, *of_one_run, *exports, "workers", "timeout", "run_timeout", "every"}
    given.forbid({"pause", "resume"}, runs, "{} does not run tests; leave out {}.")
    given.forbid({"pause"}, {"resume"}, "--pause and --resume cannot be combined.")
    given.require("reason", "pause", "--reason requires --pause.")
    given.require(
        "pause",
        "reason",
        "--pause requires a --reason, which is displayed with the results:"
        ' --reason "moving the database"',
    )
    for option in ("grouping", "pushgateway_user", "job"):
        message = "--job, --grouping and --pushgateway-user require --pushgateway."
        given.require(option, "pushgateway", message)
    for required in ("pushgateway", "every"):
        message = "--delete-on-exit requires --pushgateway and --every."
        given.require("delete_on_exit", required, message)
    message = "--serve requires --every, the interval of the runs: --every 60s --serve 9100"
    given.require("serve", "every", message)
    for one, other in (("certificate", "key"), ("key", "certificate")):
        given.require(one, other, "--certificate and --key must be used together.")
    given.require("certificate", "serve", "--certificate and --key require --serve.")
    message = "{} runs all tests regularly and prints a line for each run; leave out {}."
    given.forbid({"every"}, selecting | of_one_run, message)
    message = "{} cannot be used with {}, because only stored results are exported."
    given.forbid({"no_store"}, exports, message)
    if options["format"] == PROMETHEUS:
        message = f"--format {PROMETHEUS} prints the stored results of this host; leave out {{1}}."
        given.forbid({"format"}, {"no_store", "url"}, message)
    given.require("deadline", "until_stable", "--deadline requires --until-stable.")
    deadline = options["deadline"] or DEADLINE
    if options["until_stable"] and options["until_stable"] >= deadline:
        _refuse(
            f"--until-stable {options['until_stable']:g}s must be shorter than the --deadline of"
            f" {deadline:g}s; increase the --deadline."
        )
    given.require("token", "url", "--token requires --url.")
    local = {"failed", "pattern", "workers", "timeout", "no_store", "list"} | exports
    message = "{} runs the tests on the deployed site, with its settings; leave out {}."
    given.forbid({"url"}, local, message)
    if options["list"]:
        message = "--list does not run tests; leave out {1}."
        given.forbid({"list"}, runs - selecting - {"format", "output"} | {"failfast"}, message)
        if options["format"] not in LIST_FORMATS:
            _refuse(f"--list supports only the formats {' and '.join(LIST_FORMATS)}.")


class _Given:
    """The options that differ from their defaults."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        defaults = {"job": JOB, "format": TEXT.name}
        self._names = {
            name
            for name, value in options.items()
            if value not in (defaults.get(name), None, "", []) and value is not False
        }

    def forbid(self, these: set[str], those: set[str], message: str) -> None:
        """Raise `CommandError` if options of both sets were given."""
        if (one := these & self._names) and (others := those & self._names):
            _refuse(message.format(_options(one), _options(others)))

    def require(self, option: str, other: str, message: str) -> None:
        """Raise `CommandError` if the first option was given without the other."""
        if option in self._names and other not in self._names:
            _refuse(message)


def read_token(options: Options) -> str:
    """Return the token, without a newline that a file or a secret store may have added."""
    value = (options.token or os.environ.get(TOKEN_VARIABLE, "")).strip()
    if not value.isascii() or not value.isprintable() or " " in value:
        _refuse(
            "The token is invalid: it contains spaces or non-ASCII characters. Use one of the"
            " SMOKETEST_TOKENS of the site."
        )
    return value


def _options(names: set[str]) -> str:
    special = {"names": "ID", "pattern": "-k"}
    return " and ".join(sorted(special.get(one, f"--{one.replace('_', '-')}") for one in names))


def _refuse(message: str) -> None:
    raise CommandError(message, returncode=Exit.USAGE)


def _as_argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return an argparse type, which displays the message of a `ValueError`."""

    def parse_argument(value: str) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_argument


def _parse_name(value: str) -> str:
    if not value:
        msg = "the name is empty; leave it out to run all tests"
        raise ValueError(msg)
    return value


def _parse_format(value: str) -> str:
    if value not in FORMATS:
        msg = f"{value!r} is not a format; use {', '.join(FORMATS)}. {did_you_mean(value, FORMATS)}"
        raise ValueError(msg.rstrip())
    return value


def _parse_count(value: str) -> int:
    if not value.isdecimal():
        msg = f"{value!r} is not a valid number of threads; use 1 or more, or 0 for no timeouts"
        raise ValueError(msg)
    return int(value)


def _parse_key_and_value(value: str) -> tuple[str, str]:
    key, separator, content = value.partition("=")
    if not (key and separator and content):
        msg = f"{value!r} is not KEY=VALUE, such as instance=worker-1"
        raise ValueError(msg)
    return key, content


def _parse_address(value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        msg = f"{value!r} is not a valid [HOST:]PORT, such as 9100 or 127.0.0.1:9100"
        raise ValueError(msg)
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - the default of Prometheus exporters


_duration = _as_argument(parse_duration)
_url = _as_argument(check_url)
_name = _as_argument(_parse_name)
_format = _as_argument(_parse_format)
_count = _as_argument(_parse_count)
_key_and_value = _as_argument(_parse_key_and_value)
_address = _as_argument(_parse_address)
