"""docs/command.md and docs/deploys.md against the command."""

from __future__ import annotations

import argparse
import re
import shlex
from typing import Any

import pytest

from smoketest.cli.arguments import FORMATS, TOKEN_VARIABLE, refuse_wrong_combinations
from smoketest.cli.exits import Exit
from smoketest.management.commands.smoketest import Command
from tests.docs import tables
from tests.docs.markdown import DOCS, blocks, commands

PAGES = {name: (DOCS / name).read_text() for name in ("command.md", "deploys.md")}
PAGE = PAGES["command.md"]


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the table whose first column has this heading."""
    _, _, rest = page.partition(f"\n| {heading} |")
    rows = rest.split("\n\n", 1)[0].splitlines()[2:]
    assert rows, f"there is no table of {heading}"
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def codes(page: str) -> list[int]:
    """All numbers of the first column of the table of exit codes."""
    cells = [cells[0] for cells in table(page, "exit code")]
    return [int(code) for cell in cells for code in re.findall(r"\d+", cell)]


def parser() -> argparse.ArgumentParser:
    return Command().create_parser("manage.py", "smoketest")


@pytest.mark.parametrize("page", PAGES)
def test_exit_codes__are_those_of_the_command(page: str) -> None:
    """Each once, in their order, and no other."""
    assert codes(PAGES[page]) == list(Exit)


def test_formats__are_those_of_the_command() -> None:
    """Each has a line that says who reads it."""
    found = table(PAGE, "format")
    assert [name.strip("`") for name, _ in found] == list(FORMATS)
    assert all(meaning for _, meaning in found)


def test_options__every_one_of_ours_is_in_the_tables() -> None:
    """None of argparse's groups is left out, but for what Django adds to every command."""
    inherited = {
        option for action in argparse_of_django()._actions for option in action.option_strings
    }
    ours = {
        action.option_strings[-1]
        for action in parser()._actions
        if action.option_strings and action.option_strings[-1] not in inherited
    }
    shown = re.findall(r"^\| `(--[\w-]+)", tables.options_table(), re.MULTILINE)
    assert sorted(shown) == sorted(ours)
    assert "| `[ID ...]` |" in tables.options_table()


def argparse_of_django() -> argparse.ArgumentParser:
    """Of a command that adds nothing."""

    class Plain(Command):
        def add_arguments(self, parser: Any) -> None:
            pass

    return Plain().create_parser("manage.py", "plain")


def test_options__none_that_does_not_exist_is_named() -> None:
    """In the text, either."""
    known = {option for action in parser()._actions for option in action.option_strings}
    found = set(re.findall(r"`(--[a-z][\w-]*)[` ]", PAGE))
    assert len(found) > 20
    assert found - known == set()


def test_token__is_taken_from_the_variable_that_the_pages_name() -> None:
    """Both pages have the variable of the code."""
    assert all(f"{TOKEN_VARIABLE}" in page for page in PAGES.values())


def ours() -> list[list[str]]:
    """The arguments of every call of the command in a console or a script of the pages."""
    lines = [shown.command for page in PAGES.values() for shown in commands(page)]
    for block in blocks(PAGES["deploys.md"], "bash", "yaml", "ini", "text"):
        lines += block.content.replace("\\\n", " ").splitlines()
    call = re.compile(r"(?:manage\.py|\"\$manage\"|-m django) smoketest\b(.*)")
    return [arguments_of(match[1]) for line in lines if (match := call.search(line))]


def arguments_of(text: str) -> list[str]:
    """Without what follows in the shell, and with defaults in the place of variables."""
    filled = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", text)
    filled = filled.replace("$STABLE", "30s").replace("$DEADLINE", "300s")
    filled = re.sub(r'"\$(?:SITE|1)"', "https://shop.example.com/smoketest/", filled)
    filled = re.split(r" 2>&1| \|\| ", filled)[0]
    return shlex.split(filled, comments=True)


@pytest.mark.parametrize("arguments", ours(), ids=" ".join)
def test_command__takes_what_the_pages_give_it(arguments: list[str]) -> None:
    """Each option, its value and the combination."""
    options = vars(Command().create_parser("", "").parse_args(arguments))
    refuse_wrong_combinations(options)


def test_command__every_call_is_looked_at() -> None:
    """The pattern finds the calls of consoles and of scripts."""
    assert len(ours()) >= 14
