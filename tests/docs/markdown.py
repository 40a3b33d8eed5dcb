"""What stands in a page of Markdown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import smoketest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
#: Where GitHub shows the files of the checkout.
REPOSITORY = "https://github.com/ccnmtl/django-smoketest"
BLOB = f"{REPOSITORY}/blob/main/"


def place(path: str) -> Path:
    """Where a file of the checkout is; where a wheel is tested, the package is elsewhere."""
    is_ours = path.partition("/")[0] == "smoketest"
    return (Path(smoketest.__file__).parents[1] if is_ours else ROOT) / path


class Block(NamedTuple):
    """A block of code, and the language that it says."""

    language: str
    content: str


class Shown(NamedTuple):
    """A command of a console, and what it prints there."""

    command: str
    output: str


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of these languages, or all of them."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [Block(*one) for one in found if not languages or one[0] in languages]


def commands(page: str) -> list[Shown]:
    """What is typed into the consoles of the page; a line that ends with a backslash goes on."""
    found = []
    for block in blocks(page, "console"):
        joined = block.content.replace("\\\n", "")
        found += re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", joined, re.MULTILINE)
    return [Shown(re.sub(r"\s+", " ", command), output) for command, output in found]


def links(page: str) -> list[str]:
    """Where its links and images lead; code is left out."""
    text = re.sub(r"^```.*?^```$|`[^`\n]+`", "", page, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^()\s]+)\)", text)


def anchors(page: str) -> set[str]:
    """Of its headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_times(output: str) -> str:
    """Of the command or the endpoint: without what differs from run to run, and empty lines."""
    shown = re.sub(r"time: [\d.]+ms", "time: ...", output)
    return re.sub(r"\n{2,}", "\n", shown).strip()
