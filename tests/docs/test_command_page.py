"""Tests of docs/command.md and docs/deploys.md: they match the command."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Any

import pytest

from smoketest.cli.arguments import FORMATS, TOKEN_VARIABLE, refuse_wrong_combinations
from smoketest.cli.exits import Exit
from smoketest.management.commands import smoketest_assets
from smoketest.management.commands.smoketest import Command
from tests.docs import tables
from tests.docs.markdown import DOCS, blocks, commands

PAGES = {name: (DOCS / name).read_text() for name in ("command.md", "deploys.md")}
PAGE = PAGES["command.md"]


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table whose first column has this heading."""
    _, _, rest = page.partition(f"\n| {heading} |")
    rows = rest.split("\n\n", 1)[0].splitlines()[2:]
    assert rows, f"no table with the heading {heading}"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def codes(page: str) -> list[int]:
    """Return all numbers in the first column of the table of exit codes."""
    cells = [cells[0] for cells in table(page, "exit code")]
    return [int(code) for cell in cells for code in re.findall(r"\d+", cell)]


def parser() -> argparse.ArgumentParser:
    return Command().create_parser("manage.py", "smoketest")


def parser_of_assets() -> argparse.ArgumentParser:
    return smoketest_assets.Command().create_parser("manage.py", "smoketest_assets")


@pytest.mark.parametrize("page", PAGES)
def test_exit_codes__match_the_command(page: str) -> None:
    """Each exit code is listed once, in order."""
    assert codes(PAGES[page]) == list(Exit)


def test_formats__match_the_command() -> None:
    """Each format is listed with its content."""
    found = table(PAGE, "format")
    assert [name.strip("`") for name, _ in found] == list(FORMATS)
    assert all(meaning for _, meaning in found)


def test_options__are_all_listed() -> None:
    """All options except those that Django adds to every command are in the tables."""
    inherited = {
        option for action in argparse_of_django()._actions for option in action.option_strings
    }
    ours = {
        action.option_strings[-1]
        for action in parser()._actions
        if action.option_strings and action.option_strings[-1] not in inherited
    }
    shown = re.findall(r"^\| `(--?[\w-]+)", tables.options_table(), re.MULTILINE)
    assert sorted(shown) == sorted(ours)
    assert "| `[ID ...]` |" in tables.options_table()


def argparse_of_django() -> argparse.ArgumentParser:
    """Return the parser of a command that adds no options."""

    class Plain(Command):
        def add_arguments(self, parser: Any) -> None:
            pass

    return Plain().create_parser("manage.py", "plain")


def test_options__of_smoketest_assets() -> None:
    """The page describes each option of the other command, and its default."""
    inherited = {action.dest for action in argparse_of_django()._actions}
    ours = {
        action.option_strings[-1]: action
        for action in parser_of_assets()._actions
        if action.option_strings and action.dest not in inherited
    }
    _, _, section = PAGE.partition("\n## Writing configuration files\n")
    shown = {
        re.match(r"`(--?[\w-]+)", option)[0][1:]: meaning
        for option, meaning in table(section, "option")
    }
    assert list(shown) == list(ours)
    for option, action in ours.items():
        if action.default and action.nargs != 0:
            default = (
                action.default if isinstance(action.default, str) else ",".join(action.default)
            )
            assert f"(default: {default})" in shown[option]


def test_options__in_the_text_exist() -> None:
    known = {
        option
        for one in (parser(), parser_of_assets())
        for action in one._actions
        for option in action.option_strings
    }
    found = set(re.findall(r"`(--[a-z][\w-]*)[` ]", PAGE))
    assert len(found) > 20
    assert found - known == set()


def test_token_variable__is_on_both_pages() -> None:
    assert all(TOKEN_VARIABLE in page for page in PAGES.values())


def ours() -> list[list[str]]:
    """Return the arguments of all calls of the command in consoles and scripts."""
    lines = [shown.command for page in PAGES.values() for shown in commands(page)]
    for block in blocks(PAGES["deploys.md"], "bash", "yaml", "ini", "text"):
        lines += block.content.replace("\\\n", " ").splitlines()
    call = re.compile(r"(?:manage\.py|\"\$manage\"|-m django) smoketest\b(.*)")
    return [arguments_of(match[1]) for line in lines if (match := call.search(line))]


def arguments_of(text: str) -> list[str]:
    """Return the arguments, without redirections and with defaults in place of variables."""
    filled = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", text)
    filled = filled.replace("$STABLE", "30s").replace("$DEADLINE", "300s")
    filled = re.sub(r'"\$(?:SITE|1)"', "https://shop.example.com/smoketest/", filled)
    filled = re.split(r" 2>&1| \|\| ", filled)[0]
    return shlex.split(filled, comments=True)


@pytest.mark.parametrize("arguments", ours(), ids=" ".join)
def test_call__is_valid(arguments: list[str]) -> None:
    """The options, their values and their combination are valid."""
    options = vars(Command().create_parser("", "").parse_args(arguments))
    refuse_wrong_combinations(options)


def test_calls__are_found() -> None:
    """The pattern finds the calls in consoles and in scripts."""
    assert len(ours()) >= 14
