"""The site that Sphinx makes of docs/: built strictly, whole, and sufficient to itself."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.markdown import BLOB, DOCS, ROOT, anchors, links
from tests.servers.site import require_module

PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(DOCS.glob("*.md"))}
#: Pages that stand outside of the site, and lead into it.
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
    """What a browser loads for a page, and where its links lead."""

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


def is_foreign(address: str) -> bool:
    return bool(urlsplit(address).netloc)


def test_build__has_every_page(site: Path) -> None:
    """Nothing was wrong, no link without a goal among it, and no page was left out."""
    built = {path.stem for path in site.glob("*.html")}
    assert built >= {Path(name).stem for name in PAGES}


def test_build__loads_nothing_from_other_hosts(site: Path) -> None:
    """No font, script or style: a reader without network sees the same."""
    pages = {path.name: Page(path) for path in site.rglob("*.html")}
    assert len([one for page in pages.values() for one in page.loaded]) > len(pages)
    assert [(n, one) for n, page in pages.items() for one in page.loaded if is_foreign(one)] == []
    styles = {path.name: path.read_text() for path in site.rglob("*.css")}
    assert styles
    for name, style in styles.items():
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style), name


def test_build__can_be_walked_from_any_page(site: Path) -> None:
    """The navigation of each page has all pages, in the order of index.md."""
    listed = re.findall(r"^- \[.+?\]\(([\w-]+)\.md\)", PAGES["docs/index.md"], re.MULTILINE)
    assert {"index", *listed} == {Path(name).stem for name in PAGES}
    for name in PAGES:
        page = Page(site / f"{Path(name).stem}.html")
        own = [f"{one}.html" if f"docs/{one}.md" != name else "#" for one in listed]
        places = iter(page.linked)
        assert all(one in places for one in own), name


# Links, as GitHub shows the pages


def targets(name: str, page: str) -> Iterator[tuple[Path, str]]:
    """The files of the checkout, and the headings in them, that the page links to."""
    for link in links(page):
        address, _, anchor = link.partition("#")
        if address.startswith(BLOB):
            yield ROOT / address.removeprefix(BLOB), anchor
        elif not is_foreign(address):
            yield (ROOT / name).parent / address if address else ROOT / name, anchor


@pytest.mark.parametrize("name", [*PAGES, *OUTSIDE])
def test_link__leads_somewhere(name: str) -> None:
    """To a file of the checkout and, where it says so, to a heading in that."""
    for path, anchor in targets(name, (PAGES | OUTSIDE)[name]):
        assert path.exists(), path
        assert not anchor or anchor in anchors(path.read_text()), f"{path}#{anchor}"


@pytest.mark.parametrize("name", PAGES)
def test_link__to_a_page_stays_in_the_site(name: str) -> None:
    """A reader of the site is not sent to GitHub for another page of it."""
    assert [link for link in links(PAGES[name]) if link.startswith(f"{BLOB}docs/")] == []


def test_readme__leads_to_every_page() -> None:
    """By links alone."""
    seen = {ROOT / "README.md"}
    queue = list(seen)
    for path in queue:  # grows while it is walked
        name = path.relative_to(ROOT).as_posix()
        for target, _ in targets(name, path.read_text()):
            if target.suffix == ".md" and target.exists() and target.resolve() not in seen:
                seen.add(target.resolve())
                queue.append(target.resolve())
    assert {ROOT / name for name in PAGES} <= seen


def test_readme__leads_to_the_start() -> None:
    """Whoever wants more than the README says is led there at once."""
    assert f"{BLOB}docs/index.md" in links(OUTSIDE["README.md"])
