"""Tests of the generated tables, and of the metrics, settings and commands on all pages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError

from smoketest.cli.arguments import TOKEN_VARIABLE, refuse_wrong_combinations
from smoketest.management.commands import smoketest as command
from tests.docs import tables

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md")))
}
#: Environment variables, which look like settings.
OTHER_NAMES = {command.PASSWORD_VARIABLE, TOKEN_VARIABLE}


def named(pattern: str) -> Iterator[tuple[str, str]]:
    """Yield the matches of the pattern, with the name of the page."""
    for page, text in PAGES.items():
        for name in re.findall(pattern, text):
            yield name, page


def commands() -> list[list[str]]:
    """Return the arguments of all calls of ``manage.py smoketest`` that export metrics or pause."""
    pages = PAGES["docs/metrics.md"] + PAGES["docs/exporting.md"] + PAGES["docs/command.md"]
    found = re.findall(r"manage\.py smoketest\b([^`#\n]*)", pages)
    return [shlex.split(arguments) for arguments in found]


# The tables


@pytest.mark.parametrize("page", tables.TABLES)
def test_table__matches_the_code(page: str) -> None:
    table = tables.table_in(PAGES[f"docs/{page}"])
    assert table == tables.TABLES[page](), f"docs/{page} is out of date: {tables.COMMAND}"


def test_write__changes_nothing_but_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command replaces an outdated table and does not change the rest of the page."""
    for page in tables.TABLES:
        text = PAGES[f"docs/{page}"]
        (tmp_path / page).write_text(text.replace(tables.table_in(text), "| old |\n"))
    monkeypatch.setattr(tables, "DOCS", tmp_path)
    tables.write()
    assert {page: (tmp_path / page).read_text() for page in tables.TABLES} == {
        page: PAGES[f"docs/{page}"] for page in tables.TABLES
    }


# Names


def test_metrics__on_all_pages_exist() -> None:
    samples = {s.name for family in tables.make_collector().collect() for s in family.samples}
    found = list(named(r"\bsmoketest_(?!assets\b)[a-z_]+[a-z]\b"))  # a command
    assert len(found) > len(samples)  # the pattern finds them
    assert [(name, page) for name, page in found if name not in samples] == []


def test_settings__on_all_pages_exist() -> None:
    found = list(named(r"\bSMOKETEST_[A-Z_]+[A-Z]\b"))
    assert len(found) > len(tables.all_settings())
    known = tables.all_settings() | OTHER_NAMES
    assert [(name, page) for name, page in found if name not in known] == []


# Commands


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_call__is_valid(arguments: list[str]) -> None:
    """The options, their values and their combination are valid."""
    options: dict[str, Any] = vars(command.Command().create_parser("", "").parse_args(arguments))
    refuse_wrong_combinations(options)


def test_calls__cover_all_exports() -> None:
    """The pages show each option that exports metrics, runs the tests regularly or pauses."""
    used = {word for arguments in commands() for word in arguments if word.startswith("--")}
    parser = command.Command().create_parser("", "")
    expected = {
        action.option_strings[-1]
        for group in parser._action_groups
        if group.title and group.title.startswith(("metrics", "regular", "pause"))
        for action in group._group_actions
    }
    assert expected <= used


def test_call__with_an_unknown_option_is_invalid() -> None:
    with pytest.raises(CommandError, match="--textfiles"):
        command.Command().create_parser("", "").parse_args(["--textfiles", "x.prom"])
