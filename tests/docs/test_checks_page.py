"""Tests of docs/checks.md: it lists the system checks of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from django.core.management import call_command

from smoketest import checks as package_checks
from smoketest.contrib.celery import checks as celery_checks
from smoketest.contrib.essentials import checks as essentials_checks
from smoketest.contrib.health_check import checks as health_check_checks
from smoketest.contrib.http import checks as http_checks
from smoketest.contrib.redis import checks as redis_checks
from tests.docs import tables
from tests.docs.markdown import DOCS, commands
from tests.test_architecture import PACKAGE

PAGE = (DOCS / "checks.md").read_text()
MODULES = (
    package_checks, celery_checks, essentials_checks, health_check_checks, http_checks,
    redis_checks,
)  # fmt: skip
LEVELS = {"E": "error", "W": "warning", "I": "info"}


class Row(NamedTuple):
    check_id: str
    level: str
    message: str
    solution: str


def rows() -> list[Row]:
    """Return the rows of all tables except the generated one, which has no messages."""
    lines = re.findall(r"^\| `(smoketest\.\w+)` \| (\w+) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
    return [Row(*cells) for cells in lines]


class Call(NamedTuple):
    """A call of a class of `django.core.checks` that creates a message."""

    level: str
    #: The regular expression of the message.
    message: str
    #: None if it is not a literal.
    check_id: str | None


def calls() -> Iterator[Call]:
    for module in MODULES:
        tree = ast.parse(Path(module.__file__ or "").read_text())
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id="Error" | "Warning" | "Info" as kind)):
                    (check_id,) = (one.value for one in node.keywords if one.arg == "id")
                    literal = check_id.value if isinstance(check_id, ast.Constant) else None
                    message = pattern_of(node.args[0], vars(module))
                    yield Call(kind.lower(), message, str(literal) if literal else None)


def pattern_of(message: ast.expr, names: dict[str, object]) -> str:
    """Return a regular expression for the messages that the expression can have.

    Only names of constants and settings, which begin with a capital letter, have a known value.
    """
    if not isinstance(message, ast.JoinedStr):
        return re.escape(message.value) if isinstance(message, ast.Constant) else ".+"
    return "".join(
        re.escape(str(part.value))
        if isinstance(part, ast.Constant)
        else _pattern_of_value(ast.unparse(part.value), names)
        for part in message.values
        if isinstance(part, ast.Constant | ast.FormattedValue)
    )


def _pattern_of_value(expression: str, names: dict[str, object]) -> str:
    is_setting = re.fullmatch(r"[A-Z]\w+\.\w+\.name", expression)
    return re.escape(str(eval(expression, names))) if is_setting else ".+"  # noqa: S307 - our code


def test_ids__match_the_code() -> None:
    """Each ID in the code is listed once, here or in the generated table of settings."""
    sources = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    listed = re.findall(r"^\| `(smoketest\.\w+)`", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(set(re.findall(r"smoketest\.[EWI]\d+", sources)))
    generated = re.findall(r"smoketest\.\w+", tables.setting_checks_table())
    assert not {row.check_id for row in rows()} & set(generated)


def test_levels__match_the_ids() -> None:
    assert [row for row in rows() if row.level != LEVELS[row.check_id[-4]]] == []


@pytest.mark.parametrize(
    "call", [call for call in calls() if call.message != ".+"], ids=lambda call: str(call.check_id)
)
def test_message__matches_the_code(call: Call) -> None:
    """The page has the literal text of each message, with placeholders for values."""
    listed = [
        row
        for row in rows()
        if row.level == call.level
        and call.check_id in (row.check_id, None)
        and re.fullmatch(call.message, row.message)
    ]
    assert listed


def test_calls__are_found() -> None:
    assert len(list(calls())) >= 18
    assert len(rows()) == 25


def test_command__runs_the_checks() -> None:
    (shown,) = commands(PAGE)
    python, script, *arguments = shown.command.split()
    assert (python, script) == ("python", "manage.py")
    call_command(*arguments)
