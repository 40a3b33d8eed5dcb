"""docs/metrics.md and docs/settings.md, and what other pages name, against the code."""

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
#: What looks like a metric or a setting, and is neither.
OTHER_NAMES = {command.PASSWORD_VARIABLE, TOKEN_VARIABLE}


def named(pattern: str) -> Iterator[tuple[str, str]]:
    """What the pattern finds, and the page that it stands in."""
    for page, text in PAGES.items():
        for name in re.findall(pattern, text):
            yield name, page


def commands() -> list[list[str]]:
    """The arguments of every ``manage.py smoketest`` of docs/metrics.md, in its blocks and text."""
    page = PAGES["docs/metrics.md"].replace("\\\n", " ")
    found = re.findall(r"manage\.py smoketest\b([^`\n]*)", page)
    return [shlex.split(arguments) for arguments in found]


# The tables


@pytest.mark.parametrize("page", tables.TABLES)
def test_table__is_what_the_code_yields(page: str) -> None:
    """The table of the page has every family, or setting, of the code, word for word."""
    there = tables.table_in(PAGES[f"docs/{page}"])
    assert there == tables.TABLES[page](), f"docs/{page} is out of date: {tables.COMMAND}"


def test_write__changes_nothing_but_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command puts right what is wrong in a table, and leaves the rest of the page alone."""
    for page in tables.TABLES:
        text = PAGES[f"docs/{page}"]
        (tmp_path / page).write_text(text.replace(tables.table_in(text), "| old |\n"))
    monkeypatch.setattr(tables, "DOCS", tmp_path)
    tables.write()
    assert {page: (tmp_path / page).read_text() for page in tables.TABLES} == {
        page: PAGES[f"docs/{page}"] for page in tables.TABLES
    }


# Names


def test_metrics__every_name_exists() -> None:
    """Every metric that a page names is one of the collector."""
    samples = {s.name for family in tables.make_collector().collect() for s in family.samples}
    found = list(named(r"\bsmoketest_(?!assets\b)[a-z_]+[a-z]\b"))  # that is a command
    assert len(found) > len(samples)  # the pattern finds them
    assert [(name, page) for name, page in found if name not in samples] == []


def test_settings__every_name_exists() -> None:
    """Every setting that a page names is one."""
    found = list(named(r"\bSMOKETEST_[A-Z_]+[A-Z]\b"))
    assert len(found) > len(tables.all_settings())
    known = tables.all_settings() | OTHER_NAMES
    assert [(name, page) for name, page in found if name not in known] == []


# Commands


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_command__has_these_options(arguments: list[str]) -> None:
    """The command takes what the page tells to give it, each value and the combination too."""
    options: dict[str, Any] = vars(command.Command().create_parser("", "").parse_args(arguments))
    refuse_wrong_combinations(options)


def test_command__every_way_out_is_told_of() -> None:
    """The page has a command for each option that hands on metrics, runs regularly or pauses."""
    used = {word for arguments in commands() for word in arguments if word.startswith("--")}
    parser = command.Command().create_parser("", "")
    ours = {
        action.option_strings[-1]
        for group in parser._action_groups
        if group.title and group.title.startswith(("metrics", "regular", "pause"))
        for action in group._group_actions
    }
    assert ours <= used


def test_command__a_wrong_option_would_be_found() -> None:
    """An option that does not exist is an error here, as on the command line."""
    with pytest.raises(CommandError, match="--textfiles"):
        command.Command().create_parser("", "").parse_args(["--textfiles", "x.prom"])
