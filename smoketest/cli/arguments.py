"""The options of ``manage.py smoketest``: what each takes, and which go together."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from smoketest.cli.exits import Exit
from smoketest.cli.remote import check_url
from smoketest.validators import parse_duration

JOB = "smoketest"
PASSWORD_VARIABLE = "SMOKETEST_PUSHGATEWAY_PASSWORD"  # noqa: S105 - the name of a variable
TOKEN_VARIABLE = "SMOKETEST_TOKEN"  # noqa: S105 - the name of a variable
FORMATS = ("text", "json", "junit", "ndjson", "prometheus")
#: Those of `--list`.
LIST_FORMATS = ("text", "json")
#: Seconds.
DEADLINE = 300.0


def add_arguments(parser: CommandParser) -> None:
    which = parser.add_argument_group("which tests")
    which.add_argument(
        "names",
        nargs="*",
        type=_name,
        metavar="ID",
        help="a test, class, module or package: module.Class.method or the beginning of it",
    )
    which.add_argument(
        "--tag", action="append", type=_name, default=[], help="with this tag, repeatable"
    )
    which.add_argument(
        "--exclude-tag",
        action="append",
        type=_name,
        default=[],
        metavar="TAG",
        help="without it, repeatable",
    )
    which.add_argument("--failed", action="store_true", help="that failed when they last ran")
    which.add_argument("--list", action="store_true", help="name the tests, and run none")
    how = parser.add_argument_group("how to run them")
    how.add_argument(
        "--failfast", action="store_true", help="begin no other test once a critical one failed"
    )
    how.add_argument(
        "--workers", type=_count, metavar="N", help="threads, instead of SMOKETEST_WORKERS"
    )
    how.add_argument(
        "--timeout",
        type=_duration,
        metavar="DURATION",
        help="for tests that declare none, instead of SMOKETEST_TIMEOUT, e.g. 5s",
    )
    how.add_argument(
        "--run-timeout",
        type=_duration,
        metavar="DURATION",
        help="for the whole run, instead of SMOKETEST_RUN_TIMEOUT; with --url: for its answer",
    )
    how.add_argument("--no-store", action="store_true", help="leave the stored results as they are")
    output = parser.add_argument_group("what to print")
    output.add_argument("--format", choices=FORMATS, default="text", help="(default: %(default)s)")
    output.add_argument(
        "--output", type=Path, metavar="FILE", help="write the format there, and print the text"
    )
    gate = parser.add_argument_group("the gate of a deployment")
    gate.add_argument(
        "--until-stable",
        type=_duration,
        metavar="DURATION",
        help="run again and again until all critical tests have passed for so long",
    )
    gate.add_argument(
        "--deadline",
        type=_duration,
        metavar="DURATION",
        help=f"with --until-stable: give up after so long (default: {DEADLINE:g}s)",
    )
    gate.add_argument(
        "--url", type=_url, help="have a deployed site run them: the address of its page"
    )
    gate.add_argument(
        "--token",
        default="",
        help=f"with --url: one of its SMOKETEST_TOKENS (better given as ${TOKEN_VARIABLE})",
    )
    export = parser.add_argument_group("metrics for Prometheus, by other ways than a scrape")
    export.add_argument(
        "--textfile", type=Path, metavar="PATH", help="write a .prom file for node_exporter"
    )
    export.add_argument("--pushgateway", metavar="URL", help="push to a Pushgateway")
    export.add_argument("--job", default=JOB, help="job label of a push (default: %(default)s)")
    export.add_argument(
        "--grouping",
        action="append",
        type=_key_and_value,
        metavar="KEY=VALUE",
        help="label of a push besides the job, repeatable (default: instance=HOSTNAME)",
    )
    export.add_argument(
        "--pushgateway-user",
        default="",
        metavar="NAME",
        help=f"user of a push; ${PASSWORD_VARIABLE} holds the password",
    )
    regular = parser.add_argument_group("regular runs, where there is no scheduler")
    regular.add_argument(
        "--every", type=_duration, metavar="DURATION", help="run again and again, e.g. 60s"
    )
    regular.add_argument(
        "--serve",
        type=_address,
        metavar="[HOST:]PORT",
        help="with --every: serve /metrics (on every address if no HOST is given)",
    )
    regular.add_argument("--certificate", type=Path, metavar="FILE", help="serve over TLS")
    regular.add_argument("--key", type=Path, metavar="FILE", help="key of the certificate")
    pause = parser.add_argument_group("pause all runs on this host")
    pause.add_argument("--pause", type=_duration, metavar="DURATION", help="for so long")
    pause.add_argument("--reason", default="", help="why, for those who see the results")
    pause.add_argument("--resume", action="store_true", help="end the pause")


def refuse_wrong_combinations(options: dict[str, Any]) -> None:
    """Raises `CommandError` for options that contradict each other, or would be ignored."""
    given = _Given(options)
    runs = {
        *("names", "tag", "exclude_tag", "failed", "list", "failfast", "workers", "timeout"),
        *("run_timeout", "no_store", "format", "output", "until_stable", "url"),
        *("every", "textfile", "pushgateway"),
    }
    given.refuse({"pause", "resume"}, runs, "{} runs nothing; give it alone, without {}.")
    given.refuse({"pause"}, {"resume"}, "--pause or --resume, not both.")
    given.need("reason", "pause", "--reason goes with --pause.")
    given.need(
        "pause",
        "reason",
        '--pause needs a --reason, which everybody will see: --reason "moving the database"',
    )
    for option in ("grouping", "pushgateway_user", "job"):
        message = "--job, --grouping and --pushgateway-user go with --pushgateway."
        given.need(option, "pushgateway", message)
    message = "--serve needs --every, which says how often to run: --every 60s --serve 9100"
    given.need("serve", "every", message)
    for one, other in (("certificate", "key"), ("key", "certificate")):
        given.need(one, other, "--certificate and --key go together.")
    given.need("certificate", "serve", "--certificate and --key go with --serve.")
    selecting = {"names", "tag", "exclude_tag", "failed", "failfast", "list"}
    of_one_run = {"no_store", "format", "output", "until_stable", "url"}
    message = "{} runs all tests regularly and prints a line for each run; leave out {}."
    given.refuse({"every"}, selecting | of_one_run, message)
    exports = {"textfile", "pushgateway"}
    message = "{} leaves the stored results as they are, of which {} would tell; choose one."
    given.refuse({"no_store"}, exports, message)
    if options["format"] == "prometheus":
        message = "--format prometheus tells of the stored results of this host; leave out {1}."
        given.refuse({"format"}, {"no_store", "url"}, message)
    given.need("deadline", "until_stable", "--deadline goes with --until-stable.")
    deadline = options["deadline"] or DEADLINE
    if options["until_stable"] and options["until_stable"] >= deadline:
        _refuse(
            f"--until-stable {options['until_stable']:g}s cannot come before the --deadline of"
            f" {deadline:g}s; make that one longer."
        )
    given.need("token", "url", "--token goes with --url.")
    here = {"failed", "workers", "timeout", "no_store", "list"} | exports
    message = "{} runs the tests where the site is, with its settings; leave out {}."
    given.refuse({"url"}, here, message)
    if options["list"]:
        message = "--list runs nothing; leave out {1}."
        given.refuse({"list"}, runs - selecting - {"format", "output"} | {"failfast"}, message)
        if options["format"] not in LIST_FORMATS:
            _refuse(f"--list takes the formats {' and '.join(LIST_FORMATS)}.")


class _Given:
    """The options that somebody gave."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        defaults = {"job": JOB, "format": FORMATS[0]}
        self._names = {
            name
            for name, value in options.items()
            if value not in (defaults.get(name), None, "", []) and value is not False
        }

    def refuse(self, these: set[str], those: set[str], message: str) -> None:
        """If some of each were given."""
        if (one := these & self._names) and (others := those & self._names):
            _refuse(message.format(_options(one), _options(others)))

    def need(self, option: str, other: str, message: str) -> None:
        """The option means nothing without the other."""
        if option in self._names and other not in self._names:
            _refuse(message)


def token(options: dict[str, Any]) -> str:
    """Without the end of line that a file or a secret store may have added."""
    value: str = (options["token"] or os.environ.get(TOKEN_VARIABLE, "")).strip()
    if not value.isascii() or not value.isprintable() or " " in value:
        _refuse("The token can be none of SMOKETEST_TOKENS: it holds spaces, or other than ASCII.")
    return value


def _options(names: set[str]) -> str:
    written = ("ID" if name == "names" else f"--{name.replace('_', '-')}" for name in names)
    return " and ".join(sorted(written))


def _refuse(message: str) -> None:
    raise CommandError(message, returncode=Exit.USAGE)


def _as_argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Whose `ValueError` argparse shows."""

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


def _parse_count(value: str) -> int:
    if not value.isdecimal():
        msg = f"{value!r} is no number of threads: 1 or more, or 0 for none, without time-outs"
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
        msg = f"{value!r} is no [HOST:]PORT, such as 9100 or 127.0.0.1:9100"
        raise ValueError(msg)
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - as exporters do


_duration = _as_argument(parse_duration)
_url = _as_argument(check_url)
_name = _as_argument(_parse_name)
_count = _as_argument(_parse_count)
_key_and_value = _as_argument(_parse_key_and_value)
_address = _as_argument(_parse_address)
