"""Parse pages of Markdown: code blocks, commands, links and headings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import smoketest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
#: URL of the files of the checkout on GitHub.
REPOSITORY = "https://github.com/ccnmtl/django-smoketest"
BLOB = f"{REPOSITORY}/blob/main/"


def locate(path: str) -> Path:
    """Return the path of a file of the checkout; an installed package is outside of it."""
    is_in_package = path.partition("/")[0] == "smoketest"
    return (Path(smoketest.__file__).parents[1] if is_in_package else ROOT) / path


class Block(NamedTuple):
    """A code block and its language."""

    language: str
    content: str


class Shown(NamedTuple):
    """A command in a console block, and its output there."""

    command: str
    output: str


def blocks(page: str, *languages: str) -> list[Block]:
    """Return the code blocks in these languages, or all of them."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [Block(*one) for one in found if not languages or one[0] in languages]


def commands(page: str) -> list[Shown]:
    """Return the commands in console blocks; lines that end with a backslash are joined."""
    found = []
    for block in blocks(page, "console"):
        joined = block.content.replace("\\\n", "")
        found += re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", joined, re.MULTILINE)
    return [Shown(re.sub(r"\s+", " ", command), output) for command, output in found]


def links(page: str) -> list[str]:
    """Return the targets of links and images outside of code."""
    text = re.sub(r"^```.*?^```$|`[^`\n]+`", "", page, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^()\s]+)\)", text)


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub generates for the headings."""
    text = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_times(output: str) -> str:
    """Return a text report without its duration and empty lines, for comparison."""
    shown = re.sub(r"time: [\d.]+ms", "time: ...", output)
    return re.sub(r"\n{2,}", "\n", shown).strip()
