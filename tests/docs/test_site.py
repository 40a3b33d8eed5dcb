"""Tests of the site that Sphinx builds from docs/, and of the links between the pages."""

from __future__ import annotations

import html
import importlib
import re
import subprocess
import sys
import unittest
import zlib
from collections.abc import Iterator
from dataclasses import fields as fields_of
from enum import Enum
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django import urls
from django.contrib.auth.decorators import login_required
from django.dispatch import Signal, receiver

from smoketest import SmokeTest, options, tag
from smoketest.case import METHOD_OPTIONS
from smoketest.client import SmokeClient
from smoketest.results import (
    Declaration,
    Outcome,
    Report,
    Result,
    RunResult,
    Selection,
    Severity,
    StopReason,
)
from smoketest.views import IndexView
from tests.docs.markdown import BLOB, DOCS, ROOT, anchors, links
from tests.servers.site import require_module
from tests.test_public_api import RELEASE_2_0

PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(DOCS.glob("*.md"))}
#: Stubs at the former paths of moved pages.
MOVED = {"docs/soak.md"}
#: Pages outside of the site that link to it.
OUTSIDE = {name: (ROOT / name).read_text() for name in ("README.md", "CHANGELOG.md")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built as by ``make docs``."""
    require_module("sphinx", "--group docs")
    require_module("myst_parser", "--group docs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", DOCS, folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """The resources that a browser loads for a page, and the targets of its links."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"src", "srcset", "data", "action"} or (tag, name) == ("link", "href"):
                self.loaded.append(value or "")
            elif name == "href":
                self.linked.append(value or "")


def is_external(address: str) -> bool:
    return bool(urlsplit(address).netloc)


def test_build__has_every_page(site: Path) -> None:
    built = {path.stem for path in site.glob("*.html")}
    assert built >= {Path(name).stem for name in PAGES}


# The API reference


@pytest.fixture(scope="module")
def api(site: Path) -> set[str]:
    """Return the names that the API reference documents, from the inventory of the site.

    https://sphobjinv.readthedocs.io/en/stable/syntax.html
    """
    *_header, lines = (site / "objects.inv").read_bytes().split(b"\n", 4)
    names = zlib.decompress(lines).decode()
    return set(re.findall(r"^(\S+) py:\w+ \S+ api\.html#", names, re.MULTILINE))


def test_api__has_every_public_name(api: set[str]) -> None:
    """Classes, functions and the signal; `client` stands for `self.client`."""
    assert api >= {
        *("smoketest.SmokeTest", "smoketest.SmokeTest.client", "smoketest.client.SmokeClient"),
        *("smoketest.tag", "smoketest.options", "smoketest.signals.run_finished"),
        *("smoketest.results.Selection", "smoketest.results.StopReason"),
    }
    public = {
        f"{module}.{name}"
        for module, names in RELEASE_2_0.items()
        for name in names
        if callable(getattr(importlib.import_module(module), name))
    }
    assert public - api == {"smoketest.apps.SmokeTestConfig"}  # only for INSTALLED_APPS


def test_api__has_every_attribute_of_a_test(api: set[str]) -> None:
    names = (*METHOD_OPTIONS, "databases", "read_only")
    assert {f"smoketest.SmokeTest.{name}" for name in names} <= api


@pytest.mark.parametrize("kind", [Declaration, Report, Result, Selection])
def test_api__has_every_field(api: set[str], kind: Any) -> None:
    fields = {f"smoketest.results.{kind.__name__}.{field.name}" for field in fields_of(kind)}
    assert fields <= api


@pytest.mark.parametrize("kind", [Outcome, RunResult, Severity, StopReason])
def test_api__has_every_value(api: set[str], kind: type[Enum]) -> None:
    assert {f"smoketest.results.{kind.__name__}.{one.name}" for one in kind} <= api


def test_api__examples_run(site: Path) -> None:
    """The examples in the docstrings can be executed, each in a new namespace."""
    page = (site / "api.html").read_text()
    blocks = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    examples = [html.unescape(re.sub(r"<[^>]+>", "", block)) for block in blocks]
    assert len(examples) == 6
    for example in examples:
        names = {
            "SmokeTest": SmokeTest,
            "SmokeClient": SmokeClient,
            "tag": tag,
            "options": options,
            "self": unittest.TestCase(),
            "receiver": receiver,
            "run_finished": Signal(),  # the receiver does not stay connected
            "path": urls.path,
            "login_required": login_required,
            "IndexView": IndexView,
        }
        exec(example, names)  # noqa: S102 - our own


# Navigation and resources


def test_build__loads_nothing_from_other_hosts(site: Path) -> None:
    """Fonts, scripts and styles are part of the site, so it can be read offline."""
    pages = {path.name: Page(path) for path in site.rglob("*.html")}
    assert len([one for page in pages.values() for one in page.loaded]) > len(pages)
    assert [(n, one) for n, page in pages.items() for one in page.loaded if is_external(one)] == []
    styles = {path.name: path.read_text() for path in site.rglob("*.css")}
    assert styles
    for name, style in styles.items():
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style), name


def test_navigation__lists_all_pages_on_each_page(site: Path) -> None:
    """The order is that of index.md."""
    listed = re.findall(r"^- \[.+?\]\(([\w-]+)\.md\)", PAGES["docs/index.md"], re.MULTILINE)
    assert {"index", *listed} == {Path(name).stem for name in PAGES.keys() - MOVED}
    for name in PAGES:
        page = Page(site / f"{Path(name).stem}.html")
        own = [f"{one}.html" if f"docs/{one}.md" != name else "#" for one in listed]
        targets = iter(page.linked)
        assert all(one in targets for one in own), name


# Links on GitHub


def targets(name: str, page: str) -> Iterator[tuple[Path, str]]:
    """Yield the files of the checkout, and the anchors in them, that the page links to."""
    for link in links(page):
        address, _, anchor = link.partition("#")
        if address.startswith(BLOB):
            yield ROOT / address.removeprefix(BLOB), anchor
        elif not is_external(address):
            yield (ROOT / name).parent / address if address else ROOT / name, anchor


@pytest.mark.parametrize("name", [*PAGES, *OUTSIDE])
def test_links__exist(name: str) -> None:
    """Each link leads to a file of the checkout and, with an anchor, to a heading in it."""
    for path, anchor in targets(name, (PAGES | OUTSIDE)[name]):
        assert path.exists(), path
        assert not anchor or anchor in anchors(path.read_text()), f"{path}#{anchor}"


@pytest.mark.parametrize("name", PAGES)
def test_links__to_pages_stay_in_the_site(name: str) -> None:
    """No link leads to the copy of a page on GitHub."""
    assert [link for link in links(PAGES[name]) if link.startswith(f"{BLOB}docs/")] == []


def test_readme__leads_to_every_page() -> None:
    """Every page can be reached from README.md by following links."""
    seen = {ROOT / "README.md"}
    queue = list(seen)
    for path in queue:  # grows during the iteration
        name = path.relative_to(ROOT).as_posix()
        for target, _ in targets(name, path.read_text()):
            if target.suffix == ".md" and target.exists() and target.resolve() not in seen:
                seen.add(target.resolve())
                queue.append(target.resolve())
    assert {ROOT / name for name in PAGES.keys() - MOVED} <= seen


def test_readme__leads_to_the_tutorial_and_to_the_list_of_pages() -> None:
    assert {f"{BLOB}docs/tutorial.md", f"{BLOB}docs/index.md"} <= set(links(OUTSIDE["README.md"]))


@pytest.mark.parametrize("name", sorted(MOVED))
def test_stub__is_one_link(name: str) -> None:
    assert len(links(PAGES[name])) == 1
    assert len(PAGES[name].splitlines()) == 3
