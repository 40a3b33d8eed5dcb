"""Tests of README.md and CONTRIBUTING.md: the commands and files exist."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.docs.markdown import ROOT, links

PAGES = {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")}

#: Targets of make that the pages mention.
TARGETS = {
    target for page in PAGES.values() for target in re.findall(r"(?:`|\$ )make ([a-z0-9-]+)", page)
}


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_make_target__exists_and_is_in_the_help(target: str) -> None:
    assert "No rule to make target" not in make("--dry-run", target)
    assert target == "help" or f"make {target} " in make("help")


def make(*arguments: str) -> str:
    """Return the output of make."""
    done = subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("link", sorted(set(links(PAGES["CONTRIBUTING.md"]))))
def test_link__of_contributing_exists(link: str) -> None:
    assert link.startswith("https://") or (ROOT / link).is_file()
